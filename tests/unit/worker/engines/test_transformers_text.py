from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engines.transformers_child.options import Options, Request
from worker.engines.transformers_child.text import Spelling, Stops


def decode(ids: list[int]) -> str:
    """A tokenizer whose tokens are bytes."""
    return bytes(ids).decode("utf-8", "replace")


@given(st.text(max_size=40), st.text(max_size=8))
def test_characters_come_whole_and_all_of_them(text: str, before: str) -> None:
    spelling = Spelling(decode, list(before.encode()))
    pieces = [spelling.feed(byte) for byte in text.encode()]
    assert "\ufffd" in text or all("\ufffd" not in piece for piece in pieces)
    assert "".join(pieces) + spelling.close() == text


def test_half_a_character_is_told_at_the_end() -> None:
    spelling = Spelling(decode)
    assert [spelling.feed(byte) for byte in "aé".encode()[:2]] == ["a", ""]
    assert spelling.close() == "\ufffd"


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_a_stop_string_is_never_given_however_it_is_split(text: str, stops: list[str]) -> None:
    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    scan = Stops(stops)
    given_text = ""
    for letter in text:
        given_text += scan.feed(letter)
        if scan.met:
            break
    assert scan.met == bool(found)
    if found:
        assert not any(stop in given_text for stop in stops)
        assert text.startswith(given_text)
    else:
        assert given_text + scan.close() == text


def test_what_cannot_be_a_stop_string_is_given_at_once() -> None:
    scan = Stops(["END"])
    assert [scan.feed(piece) for piece in ("a", "bE", "N", "x", "yEN", "D!")] == [
        "a",
        "b",
        "",
        "ENx",
        "y",
        "",
    ]
    assert scan.met


def test_requests_are_read() -> None:
    request = Request.decode(b'{"prompt": "a", "sampling": {"seed": 3}, "max_tokens": null}')
    assert (request.prompt, request.sampling.seed, request.max_tokens) == ("a", 3, None)
    with pytest.raises(TypeError):
        Request.decode(b'{"prompt": "a", "unknown": 1}')
    with pytest.raises(TypeError):
        Options.decode('{"weights": "a"}')
