"""Lines as an Ollama server sends them: a thinking model, tool calls, errors."""

from __future__ import annotations

import pytest

from shared.errors import (
    ContextLengthExceeded,
    EngineFailed,
    HubError,
    InvalidValue,
    ModelUnavailable,
    Unavailable,
    UnsupportedValue,
)
from shared.wire.event import Usage
from tests.unit.worker.engines.recorder import Recorder
from worker.engines.base import EngineLost
from worker.engines.logprobs import ChatLogprobs
from worker.engines.ollama_refusal import from_reply
from worker.engines.ollama_stream import LineSink

HEAD = b'"model":"qwen3:4b","created_at":"2026-08-21T18:48:22.120518Z"'
LAST = (
    b'{%b,"message":{"role":"assistant","content":""},"done":true,"done_reason":"stop",'
    b'"total_duration":2011341166,"load_duration":56372208,"prompt_eval_count":27,'
    b'"prompt_eval_duration":311204166,"eval_count":9,"eval_duration":1589263959}' % HEAD
)


def message(fields: bytes) -> bytes:
    return b'{%b,"message":{"role":"assistant",%b},"done":false}' % (HEAD, fields)


def read(*lines: bytes) -> tuple[Recorder, Usage]:
    sink = Recorder()
    reader = LineSink(sink)
    for line in lines:
        reader.take(line)
    return sink, reader.close()


def test_thinking_comes_as_reasoning() -> None:
    sink, usage = read(
        message(b'"content":"","thinking":"The user"'),
        message(b'"content":"","thinking":" greets."'),
        message(b'"content":"Hel"'),
        message(b'"content":"lo"'),
        LAST,
    )
    assert sink.deltas == [
        {"reasoning_content": "The user"},
        {"reasoning_content": " greets."},
    ]
    assert sink.texts == ["Hel", "lo"]
    assert sink.reasons == ["stop"]
    assert not sink.resumable
    assert usage == Usage(27, 9)


def test_tool_calls_have_objects_for_arguments() -> None:
    call = b'{"id":"call_x1","function":{"index":0,"name":"weather","arguments":{"city":"Paris"}}}'
    old = b'{"function":{"name":"stop_all","arguments":{}}}'
    sink, _ = read(message(b'"content":"","tool_calls":[%b,%b]' % (call, old)), LAST)
    first, second = sink.fragments
    assert first == {
        "index": 0,
        "id": "call_x1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city":"Paris"}'},
    }
    assert second["index"] == 1
    assert second["id"].startswith("call_")
    assert second["function"] == {"name": "stop_all", "arguments": "{}"}
    assert sink.reasons == ["tool_calls"]


def test_generate_lines_and_length() -> None:
    last = b'{%b,"response":"","done":true,"done_reason":"length","eval_count":2}' % HEAD
    sink, usage = read(b'{%b,"response":"Once","done":false}' % HEAD, last)
    assert (sink.content, sink.reasons, usage) == ("Once", ["length"], Usage(0, 2))


def test_logprobs_are_openais() -> None:
    sink = Recorder()
    reader = LineSink(sink, logprobs=ChatLogprobs(1))
    tops = b'[{"token":"Hi","logprob":-0.1},{"token":"Yo","logprob":-3}]'
    given = b'{"token":"Hi","logprob":-0.1,"bytes":[72,105],"top_logprobs":%b}' % tops
    reader.take(message(b'"content":"Hi"')[:-1] + b',"logprobs":[%b]}' % given)
    reader.take(LAST)
    assert sink.deltas == [{"content": "Hi"}]
    (token,) = sink.logprobs[0]["content"]
    assert (token["token"], token["logprob"], token["bytes"]) == ("Hi", -0.1, [72, 105])
    assert [top["token"] for top in token["top_logprobs"]] == ["Hi"]


def test_broken_streams() -> None:
    with pytest.raises(EngineFailed, match="unexpected EOF"):
        read(message(b'"content":"x"'), b'{"error":"unexpected EOF"}')
    with pytest.raises(EngineLost, match="in the middle"):
        read(message(b'"content":"x"'))
    with pytest.raises(EngineLost, match="another shape"):
        read(b'{"message":"text"}')
    with pytest.raises(EngineLost, match="did not generate: load"):
        read(b'{%b,"response":"","done":true,"done_reason":"load"}' % HEAD)
    many = b",".join([b'{"function":{"name":"f"}}'] * 129)
    with pytest.raises(EngineFailed, match="too many tool calls"):
        read(message(b'"tool_calls":[%b]' % many))


@pytest.mark.parametrize(
    ("status", "message", "error", "param"),
    [
        (404, "model 'x' not found", ModelUnavailable, None),
        (503, "server busy, please try again.", Unavailable, None),
        (401, "unauthorized", EngineFailed, None),
        (400, "the input length exceeds the context length", ContextLengthExceeded, "messages"),
        (400, "the prompt is longer than the context length", ContextLengthExceeded, "messages"),
        (400, "x does not support tools", UnsupportedValue, "tools"),
        (400, "x does not support thinking", UnsupportedValue, "reasoning_effort"),
        (400, "x does not support chat", UnsupportedValue, "model"),
        (500, "failed to parse grammar", InvalidValue, "response_format"),
        (400, "top_logprobs must be between 0 and 20", InvalidValue, "messages"),
        (500, "model requires more system memory (9 GiB)", EngineFailed, None),
    ],
)
def test_complaints(status: int, message: str, error: type[HubError], param: str | None) -> None:
    told = from_reply(status, b'{"error":"%b"}' % message.encode(), "messages")
    assert type(told) is error
    assert told.param == param
