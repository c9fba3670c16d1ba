"""Byte templates give the JSON that Structs would."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sse import ChatChunks, Chunks, CompletionChunks, Head, failure
from shared.errors import EngineFailed
from shared.wire.event import Delta, Done, Finish, Item, Started, Text, Usage
from tests.contract import schema

HEAD = Head("chatcmpl-1", 1_795_000_000, "org/model:latest", "fp_1", "default")
REPLY: list[Item] = [
    Started(0.0),
    Text(0, "Hel"),
    Text(1, "Bye"),
    Text(0, 'lo "you"\n'),
    Finish(1, "length", Usage()),
    Finish(0, "stop", Usage()),
    Done(Usage(prompt=3, completion=4)),
]
CALL = (
    b'{"tool_calls":[{"index":0,"id":"c","type":"function",'
    b'"function":{"name":"f","arguments":""}}]}'
)


def events(data: bytes) -> list[str]:
    assert data.endswith(b"\n\n")
    lines = data.decode().removesuffix("\n\n").split("\n\n")
    assert all(line.startswith("data: ") for line in lines)
    return [line.removeprefix("data: ") for line in lines]


def chunks_of(data: bytes) -> list[dict[str, Any]]:
    *chunks, last = events(data)
    assert last == "[DONE]"
    return [json.loads(chunk) for chunk in chunks]


def texts(chunks: list[dict[str, Any]]) -> dict[int, str]:
    found: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            text = choice["delta"].get("content", "")
            found[choice["index"]] = found.get(choice["index"], "") + text
    return found


@pytest.mark.parametrize("include_usage", [False, True])
def test_a_chat_stream(include_usage: bool) -> None:
    chunks = chunks_of(ChatChunks(HEAD, include_usage=include_usage, choices=2).render(REPLY))
    for chunk in chunks:
        schema.check("CreateChatCompletionStreamResponse", chunk)
        assert (chunk["id"], chunk["created"], chunk["model"]) == HEAD[:3]
        assert ("usage" in chunk) == include_usage
    assert texts(chunks) == {0: 'Hello "you"\n', 1: "Bye"}
    reasons = [c["finish_reason"] for chunk in chunks for c in chunk["choices"]]
    assert [reason for reason in reasons if reason] == ["length", "stop"]
    if include_usage:
        assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"]["total_tokens"] == 7


def test_each_choice_opens_with_its_role() -> None:
    late = [Text(1, "first"), *REPLY]
    chunks = chunks_of(ChatChunks(HEAD, include_usage=False, choices=2).render(late))
    assert [chunk["choices"][0]["index"] for chunk in chunks[:3]] == [0, 1, 1]
    for index in (0, 1):
        deltas = [c["delta"] for chunk in chunks for c in chunk["choices"] if c["index"] == index]
        assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
        assert all("role" not in delta for delta in deltas[1:])


def test_tool_calls_and_logprobs_go_through_as_they_are() -> None:
    items = [
        Delta(0, "x", CALL),
        Delta(0, "y", b'{"content":"y"}', b'{"content":[],"refusal":null}'),
        Finish(0, "tool_calls", Usage()),
        Done(Usage()),
    ]
    _, call, logged, _ = chunks_of(ChatChunks(HEAD, include_usage=False).render(items))
    schema.check("CreateChatCompletionStreamResponse", call)
    assert call["choices"][0]["delta"] == json.loads(CALL)
    assert call["choices"][0]["logprobs"] is None
    assert logged["choices"][0]["logprobs"] == {"content": [], "refusal": None}


def test_a_completion_stream() -> None:
    logged = Delta(0, "!", b"{}", b'{"tokens":["!"]}')
    data = CompletionChunks(HEAD, include_usage=True).render([logged, *REPLY])
    chunks = chunks_of(data)
    for chunk in chunks:
        schema.check("CreateCompletionChunk", chunk)
    text = "".join(c["text"] for chunk in chunks for c in chunk["choices"] if c["index"] == 0)
    assert text == '!Hello "you"\n'
    assert chunks[0]["choices"][0]["logprobs"] == {"tokens": ["!"]}


def test_an_error_ends_a_stream_without_done() -> None:
    chunks = ChatChunks(HEAD, include_usage=False)
    data = chunks.render([Text(0, "a"), EngineFailed("it broke").failed()])
    assert b"[DONE]" not in data
    assert chunks.failed is not None
    [event] = events(failure(chunks.failed))
    schema.check("ErrorResponse", json.loads(event))


@given(st.lists(st.text()), st.integers(1, 5))
def test_any_text_in_any_batches_comes_through(pieces: list[str], size: int) -> None:
    kinds: list[Chunks] = [ChatChunks(HEAD, include_usage=False)]
    items: list[Item] = [*(Text(0, piece) for piece in pieces), Done(Usage())]
    for chunks in kinds:
        data = b"".join(
            chunks.render(items[start : start + size]) for start in range(0, len(items), size)
        )
        assert texts(chunks_of(data)).get(0, "") == "".join(pieces)
