from __future__ import annotations

import asyncio
from pathlib import Path

from shared.clock import SystemClock
from tests.fakes.nvml.card import GIB, FakeNvml
from tests.loops import around, reported
from tests.unit.worker.scripted import Scripted, says
from worker import memory
from worker.cuda import open_cuda
from worker.ledger import Ledger
from worker.report import Report
from worker.sampler import Sampler


async def test_a_card_tells_what_nvml_says_of_it(nvml_here: FakeNvml, tmp_path: Path) -> None:
    nvml_here.card(0).set(base=3 * GIB)
    device = await open_cuda(0)
    loop = around({"m": Scripted(says("x"))}, tmp_path)
    loop.device = device
    sampler = Sampler([device], period=0.01)
    report = Report(loop, Ledger(device.name, device.total), SystemClock(), sampler)
    assert report.device().used is None
    running = asyncio.create_task(sampler.run())
    await sampler.turn()
    running.cancel()
    await asyncio.wait({running})
    told = report.device()
    seen = await device.sample()
    assert (told.name, told.kind) == ("cuda:0", "cuda")
    assert told.description == device.description.name
    assert told.used == 3 * GIB
    assert seen.busy_percent is not None
    assert told.utilisation == seen.busy_percent / 100
    assert seen.power_mw is not None
    assert told.watts == seen.power_mw / 1000
    assert told.celsius == seen.celsius
    assert told.joules is not None
    device.close()
    loop.journal.close()


async def test_a_cpu_tells_the_whole_machine_beside_its_budget(tmp_path: Path) -> None:
    loop = around({"m": Scripted(says("x"))}, tmp_path)
    report = reported(loop)
    await report.look()
    told = report.device()
    assert told.total == memory.ram().total
    assert told.budget == GIB
    assert told.used is not None
    assert 0 < told.used < told.total
    assert (told.watts, told.celsius) == (None, None)
    loop.journal.close()
