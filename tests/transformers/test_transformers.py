"""Real transformers on real weights, through our engine; one child serves all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.errors import (
    ContextLengthExceeded,
    HubError,
    InvalidValue,
    UnsupportedParameter,
    UnsupportedValue,
)
from tests.asking import Watched, ask, generation
from tests.engine_claims import Answers, Counts, GoesOn
from tests.vllm.made import CONTEXT
from worker.engines.transformers import Transformers

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROMPTS = ["Once upon a", "The capital of France is", "One, two, three,", "Water is made of"]


class TestAnswers(Answers):
    pass


class TestCounts(Counts):
    pass


class TestGoesOn(GoesOn):
    pass


async def test_ends_by_itself(base: Transformers) -> None:
    ended, _ = await ask(base, messages=[{"role": "user", "content": "Say hi."}], max_tokens=400)
    assert ended.reasons == ["stop"]


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
