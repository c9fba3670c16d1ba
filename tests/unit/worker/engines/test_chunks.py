from __future__ import annotations

import json

import pytest

from shared.errors import ContextLengthExceeded, EngineFailed
from shared.wire.event import Usage
from tests.unit.worker.engines.recorder import Recorder
from worker.engines.base import EngineLost
from worker.engines.chunks import ChunkReader
from worker.engines.logprobs import ChatLogprobs, SameLogprobs, TextLogprobs

TOKEN = {
    "id": 1,
    "token": "Hi",
    "bytes": [72, 105],
    "logprob": -0.5,
    "top_logprobs": [
        {"id": 1, "token": "Hi", "bytes": [72, 105], "logprob": -0.5},
        {"id": 2, "token": "Yo", "bytes": None, "logprob": None},
    ],
}


def chunk(delta: object = None, reason: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason, **more}
    return json.dumps({"id": "x", "choices": [choice]}).encode()


def usage(prompt: int, completion: int) -> bytes:
    details = {"cached_tokens": 3}
    counts = {"prompt_tokens": prompt, "completion_tokens": completion}
    return json.dumps(
        {"choices": [], "usage": {**counts, "prompt_tokens_details": details}}
    ).encode()


def test_content_finish_and_usage() -> None:
    sink = Recorder()
    reader = ChunkReader(sink)
    for data in (
        chunk({"role": "assistant", "content": None}),
        chunk({"content": "One"}),
        chunk({"content": ""}),
        chunk({"content": " two"}),
        chunk({}, "stop"),
        usage(7, 2),
    ):
        reader.take(data)
    assert sink.texts == ["One", " two"]
    assert sink.reasons == ["stop"]
    assert reader.close() == Usage(7, 2, 3, 0)


def test_completion_text_and_finish_in_one_chunk() -> None:
    sink = Recorder()
    reader = ChunkReader(sink)
    reader.take(b'{"choices":[{"text":"a","index":0,"logprobs":null,"finish_reason":"length"}]}')
    assert (sink.texts, sink.reasons) == (["a"], ["length"])


def test_reasoning_and_calls_of_the_engine() -> None:
    sink = Recorder()
    reader = ChunkReader(sink)
    reader.take(chunk({"reasoning_content": "Hm"}))
    call = {"index": 0, "function": {"name": "f", "arguments": "{"}}
    reader.take(chunk({"tool_calls": [call]}))
    reader.take(chunk({"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}))
    reader.take(chunk({}, "stop"))
    assert sink.deltas[0] == {"reasoning_content": "Hm"}
    assert sink.fragments[0]["function"] == {"name": "f", "arguments": "{"}
    assert sink.fragments[0]["id"].startswith("call_")
    assert sink.arguments == "{}"
    assert sink.reasons == ["tool_calls"]
    assert not sink.resumable


def test_text_and_a_call_in_one_chunk() -> None:
    sink = Recorder()
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
    ChunkReader(sink).take(chunk({"content": "Well", "tool_calls": [call]}, "tool_calls"))
    assert (sink.texts, sink.arguments, sink.reasons) == (["Well"], "{}", ["tool_calls"])


def test_chat_logprobs() -> None:
    sink = Recorder()
    reader = ChunkReader(sink, logprobs=ChatLogprobs(2))
    reader.take(chunk({"content": "Hi"}, logprobs={"content": [TOKEN]}))
    assert sink.raw == "Hi"
    assert sink.deltas == [{"content": "Hi"}]
    assert sink.logprobs == [
        {
            "content": [
                {
                    "token": "Hi",
                    "logprob": -0.5,
                    "bytes": [72, 105],
                    "top_logprobs": [
                        {"token": "Hi", "logprob": -0.5, "bytes": [72, 105]},
                        {"token": "Yo", "logprob": -9999.0, "bytes": None},
                    ],
                }
            ],
            "refusal": None,
        }
    ]


def test_text_logprobs_go_on_counting() -> None:
    sink = Recorder()
    reader = ChunkReader(sink, logprobs=TextLogprobs(1, 10))
    for _ in range(2):
        reader.take(chunk({"content": "Hi"}, logprobs={"content": [TOKEN]}))
    assert sink.logprobs[1] == {
        "tokens": ["Hi"],
        "token_logprobs": [-0.5],
        "top_logprobs": [{"Hi": -0.5}],
        "text_offset": [12],
    }


def test_same_logprobs() -> None:
    sink = Recorder()
    reader = ChunkReader(sink, logprobs=SameLogprobs())
    reader.take(chunk({"content": "Hi"}, logprobs={"anything": [1]}))
    reader.take(chunk({"content": "Ho"}, logprobs=None))
    assert sink.logprobs == [{"anything": [1]}]
    assert sink.raw == "HiHo"


def test_errors_in_the_stream() -> None:
    reader = ChunkReader(Recorder())
    with pytest.raises(EngineFailed, match=r"boom \[path\]"):
        reader.take(b'{"error":{"code":500,"message":"boom /a/b/c"}}')
    with pytest.raises(ContextLengthExceeded):
        reader.take(b'{"error":{"message":"x","n_ctx":5,"n_prompt_tokens":9}}')
    with pytest.raises(EngineLost):
        reader.take(b"{")


def test_a_stream_that_only_stops_is_a_loss() -> None:
    reader = ChunkReader(Recorder())
    reader.take(chunk({"content": "One"}))
    with pytest.raises(EngineLost):
        reader.close()
