"""How far a start is, told by engines while real processes start."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol

import msgspec
import pytest

from shared.errors import EngineFailed
from shared.settings import DEFAULT_MODELS, Model, Settings
from shared.wire.node import LoadProgress
from tests import models
from tests.fakes import vllm_server
from tests.fakes.ollama import ollama_double
from tests.fakes.ollama_memory import Served
from tests.unit.shared.weights.configs import MODELS
from worker.engines.base import Reservation
from worker.engines.llamacpp import LlamaCpp
from worker.engines.ollama import Ollama
from worker.engines.vllm import Vllm

GIB = 1 << 30
LOOK_EVERY = 0.005


class Watchable(Protocol):
    def progress(self) -> LoadProgress | None: ...


async def watched(engine: Watchable, work: Awaitable[None]) -> list[LoadProgress]:
    """What the engine told while the work went on, and that it tells nothing before and after."""
    assert engine.progress() is None
    working = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    first = engine.progress()
    seen = [first] if first is not None else []
    while not (await asyncio.wait({working}, timeout=LOOK_EVERY))[0]:
        told = engine.progress()
        if told is not None and told not in seen:
            seen.append(told)
    assert engine.progress() is None
    await working
    return seen


async def test_llamacpp_counts_the_bytes_of_its_weights(home: Path) -> None:
    models.lend(home)
    model = msgspec.structs.replace(DEFAULT_MODELS[models.CHAT], threads=1, context=1024)
    size = (home / "models" / (model.file or "")).stat().st_size
    engine = LlamaCpp("m", model, Settings(home=str(home)))
    try:
        seen = await watched(engine, engine.start())
        assert list(dict.fromkeys(told.phase for told in seen)) == [
            "starting",
            "reading weights",
            "warming up",
        ]
        reading = [told.read for told in seen]
        assert reading == sorted(reading)
        assert {told.total for told in seen} == {size}
        assert 0.97 * size <= reading[-1] <= size
    finally:
        await engine.stop()
    assert engine.progress() is None


async def test_a_start_that_fails_is_over(home: Path) -> None:
    (home / "models").mkdir(parents=True)
    (home / "models" / "broken.gguf").write_bytes(b"GGUF" + bytes(4096))
    engine = LlamaCpp("m", Model(engine="llamacpp", file="broken.gguf"), Settings(home=str(home)))
    with pytest.raises(EngineFailed):
        await watched(engine, engine.start())
    assert engine.progress() is None


async def test_vllm_tells_its_phases_and_its_sleep(home: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**MODELS["Qwen2.5-0.5B"][0], "bytes": GIB}))
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    model = Model(engine="vllm", weights=str(tmp_path), python=vllm_server.install(home))
    given = Reservation(device="GPU-0", total=16 * GIB, granted=4 * GIB, kv=GIB)
    engine = Vllm("m", model, Settings(home=str(home)), given)
    try:
        seen = await watched(engine, engine.start())
        assert seen[0] == LoadProgress("starting", 0, 1000)
        assert LoadProgress("reading weights", 500, 1000) in seen
        assert seen[-1] == LoadProgress("warming up", 1000, 1000)
        assert await watched(engine, engine.sleep()) == [LoadProgress("falling asleep")]
        assert await watched(engine, engine.wake()) == [LoadProgress("waking up")]
    finally:
        await engine.stop()
    assert engine.progress() is None


async def test_ollama_tells_only_that_it_loads(home: Path) -> None:
    models.lend(home)
    settings = Settings(home=str(home))
    disk = {"smollm2:135m": Served(DEFAULT_MODELS[models.CHAT], ("completion",), "llama")}
    async with ollama_double(disk, settings) as server:
        entry = {"engine": "ollama", "url": server.url, "context": 1024, "kind": "chat"}
        engine = Ollama("smollm2:135m", msgspec.convert(entry, Model), settings)
        assert await watched(engine, engine.start()) == [LoadProgress("loading in Ollama")]
        await engine.stop()
