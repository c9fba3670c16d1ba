"""The part of a body that a Range header asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.span import Span, parse
from shared.errors import RangeNotSatisfiable

SIZE = 100


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"bytes=0-9", Span(0, 10)),
        (b"bytes=90-", Span(90, 100)),
        (b"bytes=90-1000", Span(90, 100)),
        (b"bytes=-5", Span(95, 100)),
        (b"bytes=-1000", Span(0, 100)),
        (b"Bytes=99-99", Span(99, 100)),
    ],
)
def test_one_part(header: bytes, expected: Span) -> None:
    assert parse(header, SIZE) == expected


@pytest.mark.parametrize(
    "header", [None, b"", b"bytes=-", b"bytes=0-1,5-6", b"lines=0-1", b"bytes=9-1", b"bytes=a-b"]
)
def test_what_is_not_understood_asks_for_all(header: bytes | None) -> None:
    assert parse(header, SIZE) is None


@pytest.mark.parametrize("header", [b"bytes=100-", b"bytes=100-200", b"bytes=-0"])
def test_nothing_of_what_is_asked_for(header: bytes) -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse(header, SIZE)


@given(some.binary(max_size=20), some.integers(0, 200))
def test_a_part_lies_in_the_whole(text: bytes, size: int) -> None:
    try:
        part = parse(b"bytes=" + text, size)
    except RangeNotSatisfiable:
        return
    assert part is None or 0 <= part.start < part.end <= size
