"""LoRA adapters that come and go while requests run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shared.errors import EngineFailed, InvalidValue
from tests import adapters
from tests.asking import Watched, ask, generation
from tests.engine_claims import Adapts
from worker.engines.transformers import Transformers

pytestmark = pytest.mark.asyncio(loop_scope="session")


class TestAdapts(Adapts):
    pass


async def test_one_in_use_stays(base: Transformers, tmp_path: Path) -> None:
    await base.load_adapter("used", str(adapters.strong(tmp_path / "used", 3)))
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
