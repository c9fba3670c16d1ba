"""LoRA adapters that come and go while requests run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shared.errors import EngineFailed, InvalidValue, ModelUnavailable
from tests import adapters
from tests.asking import Watched, ask, generation
from worker.engines.transformers import Transformers

pytestmark = pytest.mark.asyncio(loop_scope="session")


def strong(folder: Path, seed: int) -> str:
    """An adapter that changes what is said from the first words on."""
    return str(adapters.save(folder, seed, adapters.matrices(seed, strength=0.5)))


async def test_adapters_come_and_go(base: Transformers, tmp_path: Path) -> None:
    one, two = (strong(tmp_path / str(seed), seed) for seed in (1, 2))
    plain, _ = await ask(base, max_tokens=10)
    with pytest.raises(ModelUnavailable):
        await ask(base, adapter="mine-1", max_tokens=10)
    running = Watched()
    task = asyncio.create_task(base.generate(generation(max_tokens=60), running))
    await running.begun.wait()
    await base.load_adapter("mine-1", one)
    await base.load_adapter("mine-1", one)
    first, usage = await ask(base, adapter="mine-1", max_tokens=10)
    await base.load_adapter("mine.2", two)
    second, _ = await ask(base, adapter="mine.2", max_tokens=10)
    assert len({plain.content, first.content, second.content}) == 3
    assert usage.prompt > 20
    await task
    assert running.content.startswith(plain.content)
    mixed = await asyncio.gather(
        *(ask(base, adapter=name, max_tokens=10) for name in (None, "mine-1", "mine.2", None))
    )
    lone = [plain.content, first.content, second.content, plain.content]
    assert [sink.content for sink, _ in mixed] == lone
    with pytest.raises(InvalidValue, match="another version"):
        await base.load_adapter("mine-1", two)
    await base.unload_adapter("mine-1")
    await base.unload_adapter("mine-1")
    with pytest.raises(ModelUnavailable):
        await ask(base, adapter="mine-1", max_tokens=10)
    again, _ = await ask(base, adapter="mine.2", max_tokens=10)
    assert again.content == second.content
    await base.load_adapter("mine-1", one)
    back, _ = await ask(base, adapter="mine-1", max_tokens=10)
    assert back.content == first.content
    for name in ("mine-1", "mine.2"):
        await base.unload_adapter(name)
    after, _ = await ask(base, max_tokens=10)
    assert after.content == plain.content


async def test_one_in_use_stays(base: Transformers, tmp_path: Path) -> None:
    await base.load_adapter("used", strong(tmp_path / "used", 3))
    running = Watched()
    long = generation(adapter="used", max_tokens=900, ignore_eos=True)
    task = asyncio.create_task(base.generate(long, running))
    await running.begun.wait()
    with pytest.raises(EngineFailed, match="could not be unloaded"):
        await base.unload_adapter("used")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await ask(base, adapter="used", max_tokens=1)
    await base.unload_adapter("used")
    assert base.alive


async def test_adapters_that_do_not_fit(base: Transformers, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"adapter_config\.json cannot be read"):
        await base.load_adapter("none", str(tmp_path / "none"))
    dora = adapters.save(tmp_path / "dora", use_dora=True)
    with pytest.raises(InvalidValue, match="DoRA, which transformers cannot serve"):
        await base.load_adapter("dora", str(dora))
    wide = adapters.matrices(4, rank=8)
    with pytest.raises(InvalidValue, match="cannot be loaded") as caught:
        await base.load_adapter("wide", str(adapters.save(tmp_path / "wide", 4, wide)))
    assert str(tmp_path) not in caught.value.message
    strange = {"base_model.model.model.layers.99.mlp.up_proj.lora_A.weight": wide.popitem()[1]}
    with pytest.raises(InvalidValue, match="cannot be loaded"):
        await base.load_adapter("strange", str(adapters.save(tmp_path / "strange", 5, strange)))
    assert base.alive
    await ask(base, max_tokens=1)
