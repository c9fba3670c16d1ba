"""Real transformers on real weights, through our engine; one child serves all."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from shared.errors import (
    ContextLengthExceeded,
    HubError,
    InvalidValue,
    UnsupportedParameter,
    UnsupportedValue,
)
from shared.wire.event import Usage
from tests.transformers.asking import Watched, ask, generation
from tests.transformers.conftest import CONTEXT
from worker.engines.transformers import Transformers

pytestmark = pytest.mark.asyncio(loop_scope="session")

FORM = {
    "type": "json_schema",
    "json_schema": {
        "name": "w",
        "schema": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}, "sunny": {"type": "boolean"}},
            "required": ["city", "sunny"],
            "additionalProperties": False,
        },
    },
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "maxLength": 20}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]
PROMPTS = ["Once upon a", "The capital of France is", "One, two, three,", "Water is made of"]


async def test_streams_counts_and_stops(base: Transformers) -> None:
    sink, usage = await ask(base, max_tokens=12)
    assert len(sink.texts) > 6
    assert sink.reasons == ["length"]
    assert usage.completion == 12
    assert usage.prompt > 20
    word = sink.content[6:10]
    stopped, _ = await ask(base, max_tokens=12, stop=[word])
    assert stopped.content == sink.content.partition(word)[0]
    assert stopped.reasons == ["stop"]
    none, counted = await ask(base, max_tokens=0)
    assert (none.raw, none.reasons, counted) == ("", ["length"], Usage(usage.prompt))
    ended, _ = await ask(base, messages=[{"role": "user", "content": "Say hi."}], max_tokens=400)
    assert ended.reasons == ["stop"]
    text, _ = await ask(base, prompt="Once upon a", max_tokens=6, echo=True)
    assert text.content.startswith("Once upon a time")


async def test_several_at_once_overlap_and_equal_their_lone_answers(base: Transformers) -> None:
    lone = [(await ask(base, prompt=prompt, max_tokens=20))[0].content for prompt in PROMPTS]
    sinks = [Watched() for _ in PROMPTS]
    asked = [generation(prompt=prompt, max_tokens=20) for prompt in PROMPTS]
    tasks = [
        asyncio.create_task(base.generate(one, sink))
        for one, sink in zip(asked, sinks, strict=True)
    ]
    async with asyncio.timeout(60):
        await asyncio.gather(*(sink.begun.wait() for sink in sinks))
        assert not any(sink.reasons for sink in sinks)
        await asyncio.gather(*tasks)
    assert [sink.content for sink in sinks] == lone


async def test_more_than_the_slots_and_of_different_lengths(base: Transformers) -> None:
    sizes = [3, 30, 7, 18, 1, 25, 12]
    replies = await asyncio.gather(*(ask(base, prompt=PROMPTS[0], max_tokens=n) for n in sizes))
    longest = max((sink.content for sink, _ in replies), key=len)
    assert [usage.completion for _, usage in replies] == sizes
    assert all(longest.startswith(sink.content) for sink, _ in replies)


async def test_long_prompts_are_read_between_the_tokens_of_others(base: Transformers) -> None:
    running = Watched()
    task = asyncio.create_task(base.generate(generation(max_tokens=100), running))
    await running.begun.wait()
    before = len(running.texts)
    reply, usage = await ask(base, prompt="word " * 700, max_tokens=1)
    assert usage.prompt > 700
    assert len(running.texts) - before >= 5
    await task
    assert len(reply.reasons) == 1


async def test_cancelled_requests_leave_room(base: Transformers) -> None:
    sinks = [Watched() for _ in range(4)]
    long = generation(max_tokens=900, ignore_eos=True)
    tasks = [asyncio.create_task(base.generate(long, sink)) for sink in sinks]
    async with asyncio.timeout(30):
        await asyncio.gather(*(sink.begun.wait() for sink in sinks))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # There are four slots, and 900 tokens in each of them take longer than this.
    async with asyncio.timeout(5):
        await ask(base, max_tokens=1)
    assert all(not sink.reasons for sink in sinks)


async def test_seeds(base: Transformers) -> None:
    told: dict[str, Any] = {"temperature": 1.2, "top_p": 0.95, "max_tokens": 16}
    one, _ = await ask(base, seed=1, **told)
    same, _ = await ask(base, seed=1, **told)
    other, _ = await ask(base, seed=2, **told)
    assert one.content == same.content != other.content
    cut = len("".join(one.texts[:5]))
    rest, _ = await ask(base, seed=1, resume=one.content[:cut], **told)
    assert one.content[:cut] + rest.content == one.content
    free, _ = await ask(base, temperature=1.2, max_tokens=16)
    again, _ = await ask(base, temperature=1.2, max_tokens=16)
    assert free.content != again.content
    low, _ = await ask(base, temperature=1.2, top_k=1, max_tokens=8)
    greedy, _ = await ask(base, max_tokens=8)
    assert low.content == greedy.content


async def test_penalties_and_biases(base: Transformers) -> None:
    told: dict[str, Any] = {"prompt": "la la la la la la la", "max_tokens": 12}
    plain, _ = await ask(base, **told)
    punished, _ = await ask(base, repeat_penalty=1.8, **told)
    frequent, _ = await ask(base, frequency_penalty=2, presence_penalty=2, **told)
    assert plain.content not in (punished.content, frequent.content)
    held, _ = await ask(base, prompt="Once", max_tokens=3, logit_bias={"30": 100})
    assert len(set(held.texts)) == 1


async def test_resumed_text_is_counted_and_not_repeated(base: Transformers) -> None:
    whole, usage = await ask(base, max_tokens=16)
    at = len("".join(whole.texts[:6]))
    rest, counted = await ask(base, max_tokens=16, resume=whole.content[:at])
    assert whole.content[:at] + rest.content == whole.content
    assert counted == usage
    nothing, counted = await ask(base, max_tokens=6, resume=whole.content[:at])
    assert (nothing.texts, nothing.reasons) == ([], ["length"])
    assert counted == Usage(usage.prompt, 6)
    text, usage = await ask(base, prompt="Once upon a", max_tokens=6, echo=True)
    rest, counted = await ask(
        base, prompt="Once upon a", max_tokens=6, echo=True, resume="Once upon a time"
    )
    assert "Once upon a time" + rest.content == text.content
    assert counted == usage


async def test_structured_output(base: Transformers) -> None:
    sink, usage = await ask(base, response_format=FORM, max_tokens=60)
    answer = json.loads(sink.content)
    assert set(answer) == {"city", "sunny"}
    assert sink.reasons == ["stop"]
    cut = len(sink.content) // 2
    rest, counted = await ask(base, response_format=FORM, max_tokens=60, resume=sink.content[:cut])
    assert json.loads(sink.content[:cut] + rest.content) == answer
    assert counted.prompt == usage.prompt
    free, _ = await ask(base, response_format={"type": "json_object"}, max_tokens=60)
    assert free.content.startswith("{")


async def test_forced_tools(base: Transformers) -> None:
    asked: dict[str, Any] = {"tools": TOOLS, "tool_choice": "required", "max_tokens": 60}
    sink, _ = await ask(base, **asked)
    assert (sink.reasons, sink.texts) == (["tool_calls"], [])
    assert sink.fragments[0]["function"] == {"name": "get_weather", "arguments": ""}
    assert set(json.loads(sink.arguments)) == {"city"}
    cut = sink.raw.index("city") + 2
    rest, _ = await ask(base, resume=sink.raw[:cut], **asked)
    assert all("id" not in fragment for fragment in rest.fragments)
    given = sink.raw[:cut].partition('"arguments":')[2].lstrip()
    assert set(json.loads(given + rest.arguments)) == {"city"}


async def test_logprobs(base: Transformers) -> None:
    sink, _ = await ask(base, max_tokens=3, logprobs=True, top_logprobs=2)
    tokens = [token for given in sink.logprobs for token in given["content"]]
    assert [len(token["top_logprobs"]) for token in tokens] == [2, 2, 2]
    assert all(token["token"] == token["top_logprobs"][0]["token"] for token in tokens)
    assert all(-9 < token["logprob"] <= 0 for token in tokens)
    assert "".join(token["token"] for token in tokens) == sink.raw
    sink, _ = await ask(base, prompt="Once upon", max_tokens=2, logprobs=0)
    assert [given["top_logprobs"] for given in sink.logprobs] == [None, None]


@pytest.mark.parametrize(
    ("body", "error", "param"),
    [
        (
            {"messages": [{"role": "user", "content": "hi " * 2000}]},
            ContextLengthExceeded,
            "messages",
        ),
        ({"prompt": "hi " * 9000}, ContextLengthExceeded, "prompt"),
        ({"prompt": [5] * 2000}, ContextLengthExceeded, "prompt"),
        ({"prompt": [5, 60000]}, InvalidValue, "prompt"),
        ({"prompt": []}, InvalidValue, "prompt"),
        ({"temperature": -1}, InvalidValue, "temperature"),
        ({"mirostat": 1}, UnsupportedParameter, "mirostat"),
        ({"min_tokens": 4}, UnsupportedParameter, "min_tokens"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "x"}}}},
            InvalidValue,
            "response_format",
        ),
    ],
)
async def test_refusals(base: Transformers, body: Any, error: type[HubError], param: str) -> None:
    with pytest.raises(error) as caught:
        await ask(base, **body)
    assert caught.value.param == param
    if error is ContextLengthExceeded:
        assert f"length is {CONTEXT} tokens" in caught.value.message
    assert base.alive


async def test_what_a_chat_model_on_a_cpu_does_not_do(base: Transformers) -> None:
    assert not base.can_sleep
    for what in (base.sleep(), base.wake(), base.embed(["a"], None)):
        with pytest.raises(UnsupportedValue):
            await what
