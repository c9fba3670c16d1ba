from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from shared.errors import ContextLengthExceeded, EngineFailed, InvalidValue
from worker.engines.base import Generation
from worker.engines.vllm_refusal import limit_of, refusal
from worker.engines.vllm_shape import OffsetLogprobs, Shaped, go_on_behind, shaped

HI = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def chat(*, told_of_tools: bool = False, **body: Any) -> Shaped:
    generation = Generation(kind="chat", body={"messages": HI, **body})
    return shaped(generation, "base", 100, tools=told_of_tools)


def text(resume: str = "", **body: Any) -> Shaped:
    generation = Generation(kind="completion", body={"prompt": "a", **body}, resume=resume)
    return shaped(generation, "mine", 100, tools=False)


def test_the_name_and_the_limits() -> None:
    assert chat().body["model"] == "base"
    assert "max_tokens" not in chat().body
    assert chat(max_tokens=7).body["max_tokens"] == 7
    assert chat(max_completion_tokens=5000).body["max_tokens"] == 100
    assert chat(max_tokens=0).body["max_tokens"] == 0
    assert text(max_tokens=5000).body["max_tokens"] == 100


def test_what_holds_an_answer() -> None:
    assert not chat().constrained
    assert not chat(response_format={"type": "text"}).constrained
    assert chat(response_format={"type": "json_object"}).constrained
    assert chat(structured_outputs={"regex": "a+"}).constrained
    forced = chat(tools=[TOOL], tool_choice="required")
    assert forced.forced
    assert forced.constrained
    assert "tools" not in forced.body


def test_optional_tools_need_a_parser() -> None:
    assert "tools" not in chat(tools=[TOOL]).body
    assert chat(tools=[TOOL], told_of_tools=True).body["tools"] == [TOOL]


def test_the_lists_of_completions_go_on() -> None:
    raw = {"tokens": ["b"], "token_logprobs": [-1], "top_logprobs": [{"b": -1}], "text_offset": [3]}
    reader = text(resume="abcd", logprobs=2).logprobs
    assert isinstance(reader, OffsetLogprobs)
    told = json.loads(reader.shape(msgspec.Raw(json.dumps(raw).encode())))
    assert told["text_offset"] == [7]
    assert told["top_logprobs"] == [{"b": -1}]
    reader = text(logprobs=0).logprobs
    assert reader is not None
    assert json.loads(reader.shape(msgspec.Raw(json.dumps(raw).encode())))["top_logprobs"] is None
    assert text().logprobs is None


def test_going_on_behind() -> None:
    body = chat(max_tokens=9).body
    go_on_behind(body, "one two", [1, 2])
    assert body["messages"] == [*HI, {"role": "assistant", "content": "one two"}]
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert body["max_tokens"] == 7
    said = [*HI, {"role": "assistant", "content": "so: "}]
    body = chat(messages=said).body
    go_on_behind(body, "one", [1])
    assert body["messages"] == [*said, {"role": "assistant", "content": "one"}]
    body = chat(messages=said, continue_final_message=True, add_generation_prompt=False).body
    go_on_behind(body, "one", [1])
    assert body["messages"][-1]["content"] == "so: one"
    body = text().body
    go_on_behind(body, "bc", [1])
    assert (body["prompt"], "messages" in body) == ("abc", False)
    body = text(prompt=[5]).body
    go_on_behind(body, "bc", [1, 2])
    assert body["prompt"] == [5, 1, 2]


def complaint(message: str, param: str | None = None) -> bytes:
    return json.dumps({"error": {"message": message, "param": param, "code": 400}}).encode()


def test_refusals() -> None:
    long = complaint("This model's maximum context length is 1024 tokens. However, …", "input")
    assert limit_of(long) == 1024
    assert limit_of(complaint("no")) is limit_of(b"?") is None
    found = refusal(400, complaint("bad. (parameter=top_p, value=[\n3])", "top_p"), "prompt", "x")
    assert isinstance(found, InvalidValue)
    assert (found.message, found.param) == ("bad.", "top_p")
    found = refusal(400, complaint("Token id 9 is out of vocabulary"), "prompt", "x")
    assert (found.param, found.status) == ("prompt", 400)
    found = refusal(400, complaint("Grammar error: no"), "messages", "tools")
    assert (found.param, found.status) == ("tools", 400)
    assert isinstance(refusal(500, complaint("boom"), "prompt", "x"), EngineFailed)
    assert not isinstance(refusal(500, b"?", "prompt", "x"), ContextLengthExceeded)


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_a_resumed_limit_may_run_out(limit: str) -> None:
    body = chat(**{limit: 2}).body
    go_on_behind(body, "one two", [1, 2])
    assert body["max_tokens"] == 0
