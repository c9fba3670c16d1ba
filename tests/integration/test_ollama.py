"""The Ollama engine against a stand-in for `ollama serve` on real weights.

Where OLLAMA_HOST is set, the last test runs against that server.
"""

from __future__ import annotations

import asyncio
import json
import os
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from shared.errors import (
    ContextLengthExceeded,
    EngineFailed,
    HubError,
    InvalidValue,
    ModelUnavailable,
    Unavailable,
    UnsupportedParameter,
    UnsupportedValue,
)
from shared.settings import Model, Settings
from shared.wire.event import Usage
from tests.asking import TOOLS, ask, generation
from tests.engine_claims import Answers
from tests.fakes.ollama import OllamaDouble, ollama_double
from tests.fakes.ollama_disk import CHAT, DISK, EMBEDDING
from tests.unit.worker.engines.recorder import Recorder
from worker.engines.base import EngineLost
from worker.engines.ollama import Ollama
from worker.engines.ollama_server import catalog
from worker.engines.registry import build

REFERENCE: dict[str, str] = json.loads(Path(__file__).with_name("minilm.json").read_bytes())


@pytest.fixture(scope="module")
def settings(lent: Path) -> Settings:
    return Settings(home=str(lent))


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[OllamaDouble]:
    async with ollama_double(dict(DISK), settings) as double:
        yield double


def engine(server: OllamaDouble, settings: Settings, name: str = CHAT, **changes: Any) -> Ollama:
    entry = {"engine": "ollama", "url": server.url, "context": 1024, "kind": "chat"} | changes
    made = build(name, msgspec.convert(entry, Model), settings)
    assert isinstance(made, Ollama)
    return made


@pytest.fixture
async def chat(server: OllamaDouble, settings: Settings) -> AsyncIterator[Ollama]:
    made = engine(server, settings)
    await made.start()
    yield made
    await made.stop()


async def test_its_models_and_what_they_take(chat: Ollama, server: OllamaDouble) -> None:
    offers = {offer.name: offer for offer in await catalog(server.url)}
    assert offers[CHAT].capabilities == ("completion",)
    assert offers[f"{EMBEDDING}:latest"].capabilities == ("embedding",)
    assert offers[CHAT].size > 100_000_000
    assert offers[CHAT].details.family == "llama"
    taken = await chat.footprint()
    assert taken is not None
    assert (taken.context_length, taken.size_vram) == (1024, 0)
    assert chat.pids() == []


async def test_start_loads_and_stop_unloads(server: OllamaDouble, settings: Settings) -> None:
    made = engine(server, settings)
    assert not made.alive
    await made.start()
    await made.start()
    assert made.alive
    assert set(server.memory.held) == {CHAT}
    await made.stop()
    await made.stop()
    assert not made.alive
    assert not server.memory.held
    assert await made.footprint() is None
    async with asyncio.timeout(5):
        await made.ended()
    missing = engine(server, settings, "llama3.1:8b")
    with pytest.raises(EngineFailed, match=r"`ollama pull llama3.1:8b`"):
        await missing.start()


@pytest.fixture
def base(chat: Ollama) -> Ollama:
    return chat


class TestAnswers(Answers):
    pass


async def test_what_it_asks_the_server(chat: Ollama, server: OllamaDouble) -> None:
    sink, _ = await ask(chat, max_tokens=12)
    again, _ = await ask(chat, max_completion_tokens=12)
    assert again.content == sink.content
    word = sink.content[6:10]
    stopped, _ = await ask(chat, max_tokens=12, stop=word)
    assert stopped.content == sink.content.partition(word)[0]
    route, asked = server.asked[-1]
    assert route == "POST /api/chat"
    assert asked["options"]["num_ctx"] == 1024
    assert asked["keep_alive"] == "10m"
    assert asked["truncate"] is False
    ignored, _ = await ask(chat, tools=TOOLS, max_tokens=12)
    assert ignored.content == sink.content


async def test_continues_behind_what_was_given(chat: Ollama) -> None:
    whole, usage = await ask(chat, max_tokens=16)
    before = "".join(whole.texts[:6])
    rest, counted = await ask(chat, max_tokens=16, resume=before, pieces=6)
    assert before + rest.content == whole.content
    assert counted == Usage(usage.prompt, 16)
    nothing, _ = await ask(chat, max_tokens=6, resume=before, pieces=6)
    assert (nothing.texts, nothing.reasons) == ([], ["length"])
    with pytest.raises(EngineLost, match="cannot be continued"):
        await ask(chat, response_format={"type": "json_object"}, resume="{", pieces=1)


async def test_completions(chat: Ollama) -> None:
    sink, usage = await ask(chat, prompt="Once upon a", max_tokens=3, echo=True)
    assert sink.content.startswith("Once upon a time")
    assert usage == Usage(3, 3)
    rest, counted = await ask(
        chat, prompt="Once upon a", max_tokens=3, echo=True, resume=sink.content[:16], pieces=2
    )
    assert sink.content[:16] + rest.content == sink.content
    assert counted == Usage(3, 3)


@pytest.mark.parametrize(
    ("body", "error", "param"),
    [
        (
            {"messages": [{"role": "user", "content": "hi " * 2000}]},
            ContextLengthExceeded,
            "messages",
        ),
        ({"prompt": "hi " * 2000}, ContextLengthExceeded, "prompt"),
        ({"prompt": [5, 6]}, UnsupportedValue, "prompt"),
        ({"prompt": ""}, InvalidValue, "prompt"),
        ({"prompt": "x", "suffix": "y"}, UnsupportedParameter, "suffix"),
        ({"logit_bias": {"42": 100}}, UnsupportedParameter, "logit_bias"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "x"}}}},
            InvalidValue,
            "response_format",
        ),
    ],
)
async def test_refusals(chat: Ollama, body: Any, error: type[HubError], param: str) -> None:
    with pytest.raises(error) as caught:
        await ask(chat, **body)
    assert caught.value.param == param


async def test_what_the_server_complains_about(chat: Ollama, server: OllamaDouble) -> None:
    server.memory.busy = True
    with pytest.raises(Unavailable, match="maximum pending requests"):
        await ask(chat, max_tokens=1)
    server.memory.busy = False
    server.break_after = 3
    sink = Recorder()
    with pytest.raises(EngineFailed, match="error was encountered while running"):
        await chat.generate(generation(), sink)
    assert len(sink.texts) == 3
    assert sink.reasons == []
    del server.memory._models[CHAT]
    with pytest.raises(ModelUnavailable, match="not found"):
        await ask(chat, max_tokens=1)


async def test_a_server_that_went_away_is_noticed(settings: Settings) -> None:
    entry = Model(engine="ollama", url="http://127.0.0.1:9", context=512)
    with pytest.raises(EngineFailed, match="does not answer"):
        await Ollama(CHAT, entry, settings).start()
    async with ollama_double({CHAT: DISK[CHAT]}, settings) as server:
        entry = Model(engine="ollama", url=server.url, context=512)
        made = Ollama(CHAT, entry, settings, renewal=0.05)
        await made.start()
    async with asyncio.timeout(10):
        await made.ended()
    assert not made.alive
    with pytest.raises(EngineLost):
        await ask(made, max_tokens=1)
    await made.stop()


async def test_the_lease_is_renewed(server: OllamaDouble, settings: Settings) -> None:
    entry = Model(engine="ollama", url=server.url, context=512)
    made = Ollama(CHAT, entry, settings, renewal=0.02)
    await made.start()
    async with asyncio.timeout(30):
        await server.hears("POST /api/generate", 2)
        await server.memory.unload(CHAT)
        await server.hears("GET /api/ps", 3)
    assert not server.memory.held, "a model the server let go is not forced on it"
    assert made.alive
    sink, _ = await ask(made, max_tokens=2)
    assert sink.content
    await made.stop()


async def test_embeddings(server: OllamaDouble, settings: Settings) -> None:
    made = engine(server, settings, EMBEDDING, kind="embedding", context=512, token_input="cl100k")
    await made.start()
    texts = list(REFERENCE)
    vectors = await made.embed(texts, None)
    rows = np.frombuffer(vectors.data, "<f4").reshape(vectors.count, vectors.width)
    expected = np.stack([np.frombuffer(b64decode(row), "<f4") for row in REFERENCE.values()])
    assert np.min(np.sum(rows * expected, axis=1)) > 0.999
    assert (await made.embed([texts[0]], None)).usage.prompt == 8
    short = await made.embed([texts[0]], 128)
    assert (short.count, short.width) == (1, 128)
    assert (await made.embed([[9906, 1917]], None)).data == (
        await made.embed(["Hello world"], None)
    ).data
    refusals: list[tuple[Any, int | None, type[HubError], str]] = [
        (["hi " * 600], None, ContextLengthExceeded, "input"),
        ([[100256]], None, InvalidValue, "input[0]"),
        (["x"], 1000, InvalidValue, "dimensions"),
    ]
    for inputs, dimensions, error, param in refusals:
        with pytest.raises(error) as caught:
            await made.embed(inputs, dimensions)
        assert caught.value.param == param
    await made.stop()
    assert not server.memory.held


if os.environ.get("OLLAMA_HOST"):

    async def test_the_server_at_ollama_host(settings: Settings) -> None:
        """The first chat model of a real server: load, chat, count, unload."""
        url = os.environ["OLLAMA_HOST"]
        name = next(o.name for o in await catalog(url) if "completion" in o.capabilities)
        made = Ollama(name, Model(engine="ollama", url=url, context=2048), settings)
        await made.start()
        try:
            assert await made.footprint() is not None
            sink, usage = await ask(made, max_tokens=40)
            assert sink.raw or sink.deltas
            assert usage.prompt > 0
            assert 0 < usage.completion <= 40
            long = {"messages": [{"role": "user", "content": "hi " * 4000}]}
            with pytest.raises(ContextLengthExceeded):
                await ask(made, **long)
        finally:
            await made.stop()
        assert await made.footprint() is None
