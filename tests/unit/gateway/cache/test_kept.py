"""Answers kept from either kind of reply, told as either."""

from __future__ import annotations

import json

import pytest

from gateway.cache.kept import Kept, Tape, decode, encode, in_one, in_pieces, text_of
from gateway.sse import ChatChunks, Head
from shared.wire.event import (
    Answer,
    Choice,
    Delta,
    Done,
    Failed,
    Finish,
    Item,
    Started,
    Text,
    Usage,
    Vectors,
)

USAGE = Usage(5, 7, 2, 1)
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
LOGPROBS = b'{"content":[{"token":"a","logprob":-1.0}],"refusal":null}'
LEGACY = b'{"tokens":["a"],"token_logprobs":[-1.0],"top_logprobs":null,"text_offset":[0]}'
WHOLE = Answer(
    [
        Choice("one", "stop"),
        Choice("", "length"),
        Choice(None, "tool_calls", json.dumps([CALL]).encode()),
        Choice("so", "stop", reasoning="because"),
        Choice("a", "stop", logprobs=LOGPROBS),
        Choice("a", "stop", logprobs=LEGACY),
    ],
    USAGE,
)


def test_an_answer_survives_being_told_in_pieces() -> None:
    kept = decode(encode(Kept(9, [WHOLE])))
    assert in_one(kept) == WHOLE
    pieces = Kept(9, list(in_pieces(kept)))
    told = in_one(decode(encode(pieces)))
    assert isinstance(told, Answer)
    assert told.usage == USAGE
    for one, other in zip(told.choices, WHOLE.choices, strict=True):
        assert (one.text, one.reason, one.reasoning) == (other.text, other.reason, other.reasoning)
        for mine, theirs in ((one.tool_calls, other.tool_calls), (one.logprobs, other.logprobs)):
            assert mine == theirs or json.loads(mine) == json.loads(theirs)


def test_pieces_are_chunks_that_a_client_joins() -> None:
    chunks = ChatChunks(Head("id", 9, "m", "fp"), include_usage=True, choices=6)
    events = chunks.render(in_pieces(Kept(9, [WHOLE]))).decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    data = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert data[-1]["usage"]["completion_tokens"] == 7
    calls = [
        c["delta"]["tool_calls"] for d in data for c in d["choices"] if "tool_calls" in c["delta"]
    ]
    assert calls == [[{"index": 0, **CALL}]]


STREAM: list[Item] = [
    Started(1.0),
    Text(1, "b"),
    Text(0, "a"),
    Finish(1, "stop", Usage()),
    Text(0, "c"),
    Finish(0, "length", Usage()),
    Done(USAGE),
]


def test_a_stream_is_kept_when_it_has_ended() -> None:
    tape = Tape(1000)
    tape.add(STREAM[:3])
    assert tape.kept(9) is None
    tape.add(STREAM[3:])
    kept = tape.kept(9)
    assert kept is not None
    assert in_pieces(kept) == STREAM[1:]
    assert in_one(kept) == Answer([Choice("ac", "length"), Choice("b", "stop")], USAGE)


@pytest.mark.parametrize("most", [0, 10, 20])
def test_a_stream_that_is_too_large_is_not(most: int) -> None:
    tape = Tape(most)
    for item in STREAM:
        tape.add([item])
    assert tape.kept(9) is None


def test_a_stream_that_failed_is_not() -> None:
    tape = Tape(1000)
    tape.add([*STREAM[:3], Failed(500, "t", None, None, "no")])
    assert tape.kept(9) is None
    assert Tape(1000).kept(9) is None


def test_the_text_of_an_answer() -> None:
    def of(*choices: Choice) -> str | None:
        return text_of(Kept(9, [Answer(list(choices), USAGE)]))

    assert of(Choice("so", "stop")) == "so"
    assert of(Choice("so", "length")) == "so"
    assert of(Choice("so", "stop"), Choice("so", "stop")) is None
    assert of(Choice(None, "tool_calls", b"[]")) is None
    assert text_of(Kept(9, [Delta(0, None, b'{"content":"so"}'), Finish(0, "stop", USAGE)])) == "so"
    assert text_of(Kept(9, [Vectors(1, 1, b"1234", USAGE)])) is None
