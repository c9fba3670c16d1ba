from __future__ import annotations

import asyncio
from pathlib import Path
from threading import Event

import pytest

from shared.clock import SystemClock
from shared.wire.node import LoadProgress
from tests.fakes.nvml.card import GIB, FakeNvml
from tests.loops import around, reported
from tests.unit.worker.scripted import Scripted, says
from worker import memory
from worker import report as report_module
from worker.cuda import open_cuda
from worker.identity import Identity, digest
from worker.ledger import Ledger
from worker.places import NO_RUN, Grant
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


async def test_the_first_heartbeat_knows_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "w.gguf"
    weights.write_bytes(b"weights")
    loop = around({"m": Scripted(says("x"))}, tmp_path)
    read = Event()

    def find() -> Path:
        read.wait(30)
        return weights

    loop.residents["m"].identity = Identity(find)
    report = reported(loop)
    monkeypatch.setattr(report_module, "FIRST_LOOK", 30.0)
    asyncio.get_running_loop().call_later(0.05, read.set)
    await report.look()
    assert report.models()["m"].files == digest([weights])
    loop.journal.close()


async def test_no_heartbeat_waits_for_a_disk_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_module, "FIRST_LOOK", 0.01)
    hangs = Event()

    def find() -> Path:
        hangs.wait(30)
        return tmp_path

    loop = around({"m": Scripted(says("x"))}, tmp_path)
    loop.residents["m"].identity = Identity(find)
    report = reported(loop)
    for _ in range(2):
        async with asyncio.timeout(10):
            await report.look()
        assert report.models()["m"].files == ""
    hangs.set()
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


async def test_the_mean_time_of_requests_counts_those_that_were_answered(tmp_path: Path) -> None:
    loop = around({"m": Scripted(says("x"))}, tmp_path)
    report = reported(loop)
    assert report.model("m").request_seconds == 0
    now = loop.now
    loop.end(loop.grant("m")._replace(since=now - 10))
    assert report.model("m").request_seconds == pytest.approx(10, abs=0.1)
    loop.end(loop.grant("m")._replace(since=now - 20))
    assert report.model("m").request_seconds == pytest.approx(11, abs=0.1)
    loop.end(loop.grant("m")._replace(since=now - 500), answered=False)
    loop.end(Grant("m", NO_RUN, now - 500))
    assert report.model("m").request_seconds == pytest.approx(11, abs=0.1)
    loop.journal.close()


async def test_a_load_under_way_is_told(tmp_path: Path) -> None:
    engine = Scripted(says("x"))
    loop = around({"m": engine}, tmp_path)
    assert reported(loop).model("m").progress is None
    engine.loading = LoadProgress("reading weights", 1, 2)
    assert reported(loop).model("m").progress == LoadProgress("reading weights", 1, 2)
    loop.journal.close()
