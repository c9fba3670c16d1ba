"""LoRA adapters of the embedded engine: real weights, real children, requests in flight."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from shared.errors import InvalidValue, ModelUnavailable, UnsupportedValue
from shared.settings import DEFAULT_MODELS, Settings
from tests import adapters, models
from tests.asking import Watched
from tests.unit.worker.engines.recorder import Recorder
from worker.engines.base import EngineLost, Generation
from worker.engines.llamacpp import LlamaCpp

COUNT = [{"role": "user", "content": "Count from one to twenty in words."}]
LENGTH = 12


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("adapters")
    models.lend(home)
    adapters.save(home / "one", seed=1)
    adapters.save(home / "two", seed=2, use_rslora=True)
    return home


def engine(home: Path, **changes: object) -> LlamaCpp:
    entry = msgspec.structs.replace(
        DEFAULT_MODELS[models.CHAT], threads=1, context=512, parallel=4, **changes
    )
    return LlamaCpp(models.CHAT, entry, Settings(home=str(home)))


@pytest.fixture
async def chat(home: Path) -> AsyncIterator[LlamaCpp]:
    made = engine(home)
    await made.start()
    yield made
    await made.stop()
    assert made.pids() == []


def generation(adapter: str | None = None, length: int = LENGTH, resume: str = "") -> Generation:
    body = {"messages": COUNT, "temperature": 0, "max_tokens": length, "lora": [{"id": 0}]}
    return Generation(kind="chat", body=body, adapter=adapter, resume=resume)


async def say(engine: LlamaCpp, adapter: str | None = None, length: int = LENGTH) -> str:
    sink = Recorder()
    async with asyncio.timeout(60):
        await engine.generate(generation(adapter, length), sink)
    assert sink.reasons
    return sink.content


async def begun(
    engine: LlamaCpp, adapter: str | None = None, length: int = 120
) -> tuple[Watched, asyncio.Task[object]]:
    sink = Watched()
    task = asyncio.create_task(engine.generate(generation(adapter, length), sink))
    async with asyncio.timeout(30):
        await sink.begun.wait()
    return sink, task


async def test_chosen_by_each_request(chat: LlamaCpp, home: Path) -> None:
    assert chat.can_adapt
    plain = await say(chat)
    await chat.load_adapter("one", str(home / "one"))
    await chat.load_adapter("two", str(home / "two"))
    said = {None: await say(chat), "one": await say(chat, "one"), "two": await say(chat, "two")}
    assert said[None] == plain
    assert len(set(said.values())) == 3
    asked = [None, "one", "two", "one", None, "two", "two", "one"]
    answers = await asyncio.gather(*(say(chat, adapter) for adapter in asked))
    assert answers == [said[adapter] for adapter in asked]
    whole = Recorder()
    await chat.generate(generation("two"), whole)
    before = "".join(whole.texts[:6])
    rest = Recorder()
    await chat.generate(generation("two", resume=before), rest)
    assert before + rest.content == whole.content == said["two"]


@pytest.mark.parametrize("double", [True, False])
async def test_loaded_while_streams_run(chat: LlamaCpp, home: Path, double: bool) -> None:
    chat.may_double = lambda: double
    before = chat.pid
    whole = await say(chat, length=60)
    sinks = [await begun(chat, length=60) for _ in range(2)]
    ended = asyncio.create_task(chat.ended())
    loading = asyncio.create_task(chat.load_adapter("one", str(home / "one")))
    waiting = [asyncio.create_task(say(chat)) for _ in range(3)]
    async with asyncio.timeout(60):
        await loading
        assert chat.alive
        after = chat.pid
        assert after != before
        adapted = await say(chat, "one")
        await asyncio.gather(*(task for _, task in sinks))
        answers = await asyncio.gather(*waiting)
    assert [sink.content for sink, _ in sinks] == [whole, whole]
    assert all(whole.startswith(answer) for answer in answers)
    assert not whole.startswith(adapted)
    assert not ended.done(), "a switch is not the engine's end"
    os.kill(after, signal.SIGKILL)
    async with asyncio.timeout(10):
        await ended
    assert chat.pids() == []
    await chat.start()
    assert await say(chat, "one") == adapted


async def test_a_running_request_keeps_its_version(chat: LlamaCpp, home: Path) -> None:
    chat.may_double = lambda: True
    await chat.load_adapter("tuned:1", str(home / "one"))
    whole = await say(chat, "tuned:1", 60)
    first = chat.pid
    sink, task = await begun(chat, "tuned:1", 60)
    await chat.load_adapter("tuned:2", str(home / "two"))
    assert sorted(chat.pids()) == sorted({first, chat.pid})
    await chat.unload_adapter("tuned:1")
    assert await say(chat, "tuned:2") != whole[:20]
    async with asyncio.timeout(60):
        await task
    assert sink.content == whole
    with pytest.raises(ModelUnavailable, match=r"'tuned:1' is not loaded"):
        await say(chat, "tuned:1")


async def test_names_and_reloads(chat: LlamaCpp, home: Path) -> None:
    await chat.load_adapter("one", str(home / "one"))
    pid = chat.pid
    await chat.load_adapter("one", str(home / "one"))
    with pytest.raises(InvalidValue, match="another path"):
        await chat.load_adapter("one", str(home / "two"))
    await chat.unload_adapter("one")
    await chat.unload_adapter("one")
    await chat.load_adapter("one", str(home / "one"))
    assert chat.pid == pid
    both = [chat.load_adapter(name, str(home / "two")) for name in ("a", "b")]
    await asyncio.gather(*both)
    assert await say(chat, "a") == await say(chat, "b")


@pytest.mark.parametrize("double", [True, False])
async def test_what_does_not_fit_changes_nothing(
    chat: LlamaCpp, home: Path, tmp_path: Path, double: bool
) -> None:
    chat.may_double = lambda: double
    await chat.load_adapter("one", str(home / "one"))
    adapted = await say(chat, "one")
    pid = chat.pid
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    tensors = adapters.matrices(3)
    narrow = tensors | {name: tensors[name][:, :64].copy()}
    folder = adapters.save(tmp_path / "narrow", tensors=narrow)
    with pytest.raises(InvalidValue, match=r"q_proj is 576 x 64 in the adapter, but 576 x 576"):
        await chat.load_adapter("bad", str(folder))
    with pytest.raises(InvalidValue, match=r"adapter_config.json: No such file"):
        await chat.load_adapter("bad", str(tmp_path))
    assert chat.pid == pid
    (tmp_path / "broken.gguf").write_bytes(b"GGUF but no adapter")
    with pytest.raises(InvalidValue, match="cannot be loaded"):
        await chat.load_adapter("bad", str(tmp_path / "broken.gguf"))
    with pytest.raises(ModelUnavailable):
        await say(chat, "bad")
    assert await say(chat, "one") == adapted
    assert (chat.pid == pid) == double


async def test_one_of_several_is_broken(chat: LlamaCpp, home: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF but no adapter")
    paths = {"one": str(home / "one"), "bad": str(tmp_path / "broken.gguf")}
    errors = await chat.load_adapters(paths)
    assert list(errors) == ["bad"]
    assert await say(chat, "one") != await say(chat)
    await chat.stop()
    (tmp_path / "two.gguf").write_bytes(b"GGUF but no adapter")
    assert await chat.load_adapters({"two": str(tmp_path / "two.gguf")}) == {}
    await chat.start()
    assert await say(chat)
    with pytest.raises(ModelUnavailable, match="not loaded"):
        await say(chat, "two")


async def test_several_take_one_successor(chat: LlamaCpp, home: Path) -> None:
    chat.may_double = lambda: True
    first = chat.pid
    _, task = await begun(chat)
    assert await chat.load_adapters({name: str(home / name) for name in ("one", "two")}) == {}
    assert sorted(chat.pids()) == sorted({first, chat.pid})
    single = asyncio.create_task(chat.single())
    await say(chat, "two")
    assert not single.done() or task.done()
    await asyncio.gather(task, single)
    assert chat.pids() == [chat.pid]


async def test_stop_while_an_adapter_loads(home: Path) -> None:
    for double in (True, False):
        made = engine(home)
        made.may_double = lambda double=double: double
        await made.start()
        _, task = await begun(made)
        loading = asyncio.create_task(made.load_adapter("one", str(home / "one")))
        # One turn of the loop lets the load begin.
        await asyncio.sleep(0)
        await made.stop()
        results = await asyncio.gather(task, loading, return_exceptions=True)
        assert all(isinstance(result, EngineLost) for result in results)
        assert not made.alive
        await made.stop()
        assert made.pids() == []


async def test_loaded_before_the_start(home: Path) -> None:
    made = engine(home)
    paths = {name: str(home / name) for name in ("one", "none", "two")}
    errors = await made.load_adapters(paths)
    assert list(errors) == ["none"]
    assert "adapter_config.json: No such file" in str(errors["none"])
    await made.start()
    pid = made.pid
    assert list(await made.load_adapters(paths)) == ["none"]
    assert made.pid == pid
    assert len({await say(made, adapter) for adapter in (None, "one", "two")}) == 3
    await made.stop()
    embedding = LlamaCpp(
        models.EMBEDDING, DEFAULT_MODELS[models.EMBEDDING], Settings(home=str(home))
    )
    assert not embedding.can_adapt
    with pytest.raises(UnsupportedValue):
        await embedding.load_adapter("one", str(home / "one"))
