from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engines import events
from worker.engines.events import EventReader, EventTooLong, LineReader

STREAM = (
    b": a comment\n\n"
    b'data: {"a":1}\n\n'
    b'data:{"b":2}\r\n\r\n'
    b"event: message\nid: 7\nretry: 10\ndata: first\ndata: second\n\n"
    b"\n\n\r\n"
    b'data: {"text":"Z\xc3\xbcrich \xe2\x82\xac"}\n\n'
    b"data\n\n"
    b"data: [DONE]\n\n"
)
EVENTS = [
    b'{"a":1}',
    b'{"b":2}',
    b"first\nsecond",
    b'{"text":"Z\xc3\xbcrich \xe2\x82\xac"}',
    b"",
    b"[DONE]",
]


def read(*pieces: bytes) -> list[bytes]:
    got: list[bytes] = []
    reader = EventReader(got.append)
    for piece in pieces:
        reader.feed(piece)
    return got


def test_split_at_every_byte() -> None:
    for at in range(len(STREAM) + 1):
        assert read(STREAM[:at], STREAM[at:]) == EVENTS


def test_byte_by_byte() -> None:
    assert read(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=8).map(sorted))
def test_any_pieces(cuts: list[int]) -> None:
    edges = [0, *cuts, len(STREAM)]
    assert read(*(STREAM[a:b] for a, b in pairwise(edges))) == EVENTS


def test_unfinished_event_is_not_given() -> None:
    assert read(b'data: {"a":1}\n') == []


@pytest.mark.parametrize("line", [b"data: " + b"x" * 40, b"data: x\n" * 40])
def test_endless_event_is_refused(line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LONGEST_EVENT", 32)
    with pytest.raises(EventTooLong):
        read(line)


def test_lines_split_at_every_byte() -> None:
    stream = b'{"a":1}\n\r\n{"text":"Z\xc3\xbcrich"}\r\n\n{"done":true}\n{"cut'
    lines = [b'{"a":1}', b'{"text":"Z\xc3\xbcrich"}', b'{"done":true}']
    for at in range(len(stream)):
        got: list[bytes] = []
        reader = LineReader(got.append)
        reader.feed(stream[:at])
        reader.feed(stream[at:])
        assert [line.rstrip() for line in got] == lines


def test_a_line_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LONGEST_EVENT", 100)
    reader = LineReader(lambda _: None)
    reader.feed(b"x" * 90)
    with pytest.raises(EventTooLong):
        reader.feed(b"x" * 11)
