"""What callers say of the cache."""

from __future__ import annotations

import pytest

from gateway.cache.terms import ANY_AGE, USUAL, Terms, read
from shared.errors import InvalidValue

OFF = Terms(look=False, keep=False)


@pytest.mark.parametrize(
    ("name", "value", "terms"),
    [
        ("accept", "text/plain", USUAL),
        ("cache-control", "", USUAL),
        ("cache-control", "max-stale, x=y", USUAL),
        ("cache-control", "no-cache", Terms(look=False)),
        ("cache-control", "max-age=60", Terms(asked=True, oldest_ms=60_000)),
        ("cache-control", "Max-Age=60, no-transform", Terms(asked=True, oldest_ms=60_000)),
        ("cache-control", "max-age=0", Terms(asked=True, look=False, oldest_ms=0)),
        ("cache-control", "max-age=60,no-cache", Terms(True, look=False, oldest_ms=60_000)),
        ("cache-control", "no-cache,max-age=60", Terms(True, look=False, oldest_ms=60_000)),
        ("cache-control", "max-age=soon", USUAL),
        ("cache-control", "max-age=-1", USUAL),
        ("cache-control", "max-age=" + "9" * 30, Terms(asked=True, oldest_ms=10**12)),
        ("cache-control", "max-age=60, no-store", OFF),
        ("x-aihub-cache", " Use ", Terms(asked=True)),
        ("x-aihub-cache", "refresh", Terms(asked=True, look=False)),
        ("x-aihub-cache", "off", OFF),
    ],
)
def test_headers(name: str, value: str, terms: Terms) -> None:
    assert read({name.encode(): value.encode()}) == terms
    assert USUAL.oldest_ms == ANY_AGE


def test_our_own_header_goes_before() -> None:
    assert read({b"x-aihub-cache": b"use", b"cache-control": b"no-store"}).look


@pytest.mark.parametrize("value", [b"", b"on", b"\xff"])
def test_a_wrong_word_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidValue) as refused:
        read({b"x-aihub-cache": value})
    assert refused.value.param == "x-aihub-cache"
