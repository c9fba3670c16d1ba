"""Adapters through the whole hub: real weights, the openai SDK, hot loads, unloading by use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import openai
import pytest

from tests import adapters
from tests.hub import Hub, running_hub

TOML = """
[models.base]
engine = "llamacpp"
file = "smollm2-135m-instruct.q8_0.gguf"
context = 512
threads = 1

[models.base.adapters]
"one" = "{folder}/one"
"two" = "{folder}/two"
"broken" = "{folder}/broken"

[models.tight]
engine = "llamacpp"
file = "smollm2-135m-instruct.q8_0.gguf"
context = 512
threads = 1
loaded_adapters = 1

[models.tight.adapters]
"left" = "{folder}/one"
"right" = "{folder}/two"
"""
COUNT = "Count from one to twenty in words."
LENGTH = 12


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("made")
    adapters.save(folder / "one", seed=1)
    adapters.save(folder / "two", seed=2, use_rslora=True)
    adapters.save(folder / "broken", use_dora=True)
    with running_hub(TOML.format(folder=folder)) as running:
        yield running


@pytest.fixture
async def client(hub: Hub) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=hub.base_url, api_key=hub.key, max_retries=0, timeout=60
    ) as opened:
        yield opened


async def say(client: openai.AsyncOpenAI, model: str, length: int = LENGTH) -> str:
    answer = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": COUNT}],
        temperature=0,
        max_tokens=length,
    )
    assert answer.model == model
    assert answer.choices[0].message.content
    return answer.choices[0].message.content


async def stream(client: openai.AsyncOpenAI, model: str, length: int) -> str:
    chunks = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": COUNT}],
        temperature=0,
        max_tokens=length,
        stream=True,
    )
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])


async def test_listed_with_their_base(client: openai.AsyncOpenAI) -> None:
    listed = {model.id: model async for model in client.models.list()}
    assert set(listed) == {"base", "one", "two", "broken", "tight", "left", "right"}
    assert listed["one"].parent == listed["one"].root == "base"  # type: ignore[attr-defined]
    assert not hasattr(listed["base"], "parent")
    one = await client.models.retrieve("one")
    assert one.parent == "base"  # type: ignore[attr-defined]


async def test_each_request_gets_the_model_it_asked_for(client: openai.AsyncOpenAI) -> None:
    alone = {model: await say(client, model) for model in ("base", "one", "two")}
    assert len(set(alone.values())) == 3
    asked = ["base", "one", "two", "one", "base", "two", "two", "one", "base"]
    answers = await asyncio.gather(*(say(client, model) for model in asked))
    assert answers == [alone[model] for model in asked]
    assert await stream(client, "two", LENGTH) == alone["two"]


async def test_what_cannot_be_loaded_says_why_and_its_base_answers(
    client: openai.AsyncOpenAI,
) -> None:
    for _ in range(2):
        with pytest.raises(openai.BadRequestError, match="use_dora") as refused:
            await say(client, "broken")
        assert refused.value.param == "model"
        assert await say(client, "base")


async def test_unloaded_by_use_under_load(hub: Hub, client: openai.AsyncOpenAI) -> None:
    """One adapter fits, two are asked for by turns and together, while their base answers."""
    alone = {model: await say(client, model) for model in ("tight", "left", "right")}
    assert len(set(alone.values())) == 3

    async def ask(turns: int, first: int) -> int:
        for turn in range(turns):
            model = ("left", "right", "tight")[(first + turn) % 3]
            assert await say(client, model) == alone[model]
        return turns

    began = time.monotonic()
    counts = await asyncio.gather(*(ask(6, number) for number in range(8)))
    print(f"{sum(counts)} requests at a bound of one in {time.monotonic() - began:.1f} s")
    assert len(hub.pids("engine")) <= 4


async def test_an_engine_that_died_has_its_adapters_again(
    hub: Hub, client: openai.AsyncOpenAI
) -> None:
    before = await say(client, "one")
    long = asyncio.create_task(stream(client, "one", 200))
    for pid in hub.pids("engine"):
        hub.kill_pid(pid)
    assert await say(client, "one") == before
    assert (await long).startswith(before)
