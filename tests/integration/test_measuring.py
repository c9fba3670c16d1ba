"""The loop on a fake card: real processes hold its bytes, other programs come and go."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.estimates import estimate
from tests.fakes.nvml.card import GIB, FakeNvml
from tests.fakes.nvml.engine import VramEngine
from tests.integration.card_place import CAPACITY, placed
from worker import memory, resident
from worker.foreign import step
from worker.occasion import LoadAsked, UnloadAsked

NOTICED = 2 * step(CAPACITY)
NOT_SUPPORTED, LOST = 3, 15
LISTS = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")
MIB = 1 << 20


@pytest.fixture
def unlisted(nvml_here: FakeNvml) -> FakeNvml:
    """A driver that does not say which process holds what."""
    for call in LISTS:
        nvml_here.fail(call, NOT_SUPPORTED)
    return nvml_here


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are not back at once linger."""
    monkeypatch.setattr(resident, "RELEASE_WITHIN", 0.05)


@pytest.mark.parametrize("lists", [True, False])
async def test_two_models_and_a_program_that_comes_and_goes(
    lists: bool, nvml_here: FakeNvml, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if not lists:
        request.getfixturevalue("unlisted")
    card = nvml_here.card()
    card.set(base=GIB)
    engines = {"a": VramEngine(5 * GIB), "b": VramEngine(4 * GIB)}
    async with placed(tmp_path, engines, {"a": 6 * GIB, "b": 5 * GIB}) as place:
        loop = place.loop
        assert GIB <= loop.state.foreign <= GIB + NOTICED
        await place.load("a", "b")
        assert (place.measured("a"), place.measured("b")) == (5 * GIB, 4 * GIB)
        place.books_agree()
        card.set(base=3 * GIB)
        await loop.watch.round()
        assert 3 * GIB <= loop.state.foreign <= 3 * GIB + NOTICED
        assert (place.measured("a"), place.measured("b")) == (5 * GIB, 4 * GIB)
        card.set(base=8 * GIB)
        await loop.watch.round()
        assert loop.state.free < 0
        assert place.ledger.free() == 0
        assert [loop.slot(name).state for name in "ab"] == ["ready", "ready"]
        card.set(base=GIB)
        await loop.watch.round()
        assert GIB <= loop.state.foreign <= GIB + NOTICED
        place.books_agree()
        assert (loop.residents["a"].peak, loop.residents["b"].peak) == (5 * GIB, 4 * GIB)


async def test_a_model_is_not_charged_what_came_before_its_load(
    unlisted: FakeNvml, tmp_path: Path
) -> None:
    async with placed(tmp_path, {"a": VramEngine(5 * GIB)}, {"a": 6 * GIB}) as place:
        unlisted.card().set(base=2 * GIB)
        await place.load("a")
        assert place.measured("a") == 5 * GIB
        assert 2 * GIB <= place.loop.state.foreign <= 2 * GIB + NOTICED
        unlisted.card().set(base=4 * GIB)
        await place.loop.watch.round()
        assert place.measured("a") == 5 * GIB
        assert 4 * GIB <= place.loop.state.foreign <= 4 * GIB + NOTICED


async def test_room_that_went_to_others_is_not_given_twice(
    nvml_here: FakeNvml, tmp_path: Path
) -> None:
    """The program comes between two rounds: the load is decided on the old figure."""
    engines = {"a": VramEngine(5 * GIB), "b": VramEngine(5 * GIB)}
    async with placed(tmp_path, engines, {"a": 6 * GIB, "b": 6 * GIB}) as place:
        await place.load("a")
        nvml_here.card().set(base=8 * GIB)
        place.arrive("b")
        assert place.loop.state.work is not None
        assert place.loop.state.work.what == "load"
        await place.reach(a="absent", b="ready")
        assert engines["b"].starts == 1
        assert place.loop.slot("b").failures == 0
        place.books_agree()


@pytest.mark.parametrize("lists", [True, False])
async def test_bytes_of_the_dead_are_withheld_until_they_are_back(
    lists: bool,
    nvml_here: FakeNvml,
    hurried: None,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    if not lists:
        request.getfixturevalue("unlisted")
    engines = {"a": VramEngine(5 * GIB, linger=3600), "b": VramEngine(4 * GIB)}
    async with placed(tmp_path, engines, {"a": 6 * GIB, "b": 5 * GIB}) as place:
        await place.load("a", "b")
        pid = engines["a"].pids()[0]
        place.loop.post(UnloadAsked(place.loop.now, "a"))
        await place.reach(a="absent")
        line = place.ledger.snapshot().quarantines[0]
        assert 5 * GIB - NOTICED <= line.bytes <= 5 * GIB
        assert "a has ended and cuda:0" in line.why
        assert place.loop.state.foreign <= NOTICED
        place.books_agree()
        await place.load("a")
        assert place.measured("a") == 5 * GIB
        await place.loop.watch.round()
        assert [each.why for each in place.ledger.snapshot().quarantines] == [line.why]
        nvml_here.forget(pid)
        await place.loop.watch.round()
        assert place.loop.state.quarantined == 0
        assert place.ledger.snapshot().quarantines == ()
        place.books_agree()


async def test_a_card_that_does_not_answer_is_not_taken_for_a_free_one(
    nvml_here: FakeNvml, hurried: None, tmp_path: Path
) -> None:
    engines = {"a": VramEngine(5 * GIB), "b": VramEngine(4 * GIB)}
    async with placed(tmp_path, engines, {"a": 6 * GIB, "b": 5 * GIB}) as place:
        await place.load("a", "b")
        nvml_here.fail("nvmlDeviceGetMemoryInfo_v2", LOST)
        for call in LISTS:
            nvml_here.fail(call, LOST)
        await place.loop.watch.round()
        assert place.measured("b") == 4 * GIB
        place.loop.post(UnloadAsked(place.loop.now, "a"))
        await place.reach(a="absent")
        line = place.ledger.snapshot().quarantines[0]
        assert line.bytes == 5 * GIB
        assert line.why == "a has ended and cuda:0 does not tell whether its bytes are free"
        nvml_here.mend()
        await place.loop.watch.round()
        assert place.ledger.snapshot().quarantines == ()
        place.books_agree()


async def test_an_engine_that_dies_is_cleaned_up_and_its_figures_stand(
    nvml_here: FakeNvml, tmp_path: Path
) -> None:
    async with placed(tmp_path, {"a": VramEngine(5 * GIB)}, {"a": 6 * GIB}) as place:
        await place.load("a")
        place.engines["a"].kill()
        await place.loop.watch.round()
        assert place.loop.residents["a"].peak == 5 * GIB
        await place.reach(a="failed")
        assert place.ledger.snapshot().holders == ()
        assert place.loop.residents["a"].loaded == 5 * GIB
        place.books_agree()


async def test_a_start_out_of_memory_gives_all_back_and_asks_for_more(
    nvml_here: FakeNvml, tmp_path: Path
) -> None:
    async with placed(tmp_path, {"a": VramEngine(17 * GIB)}, {"a": 10 * GIB}) as place:
        place.loop.post(LoadAsked(place.loop.now, "a"))
        await place.reach(a="failed")
        assert "out of memory" in place.loop.slot("a").why
        assert place.loop.slot("a").plan.size == 11 * GIB
        assert place.ledger.snapshot().holders == ()
        place.books_agree()


async def test_a_start_that_others_starved_keeps_its_estimate(
    nvml_here: FakeNvml, tmp_path: Path
) -> None:
    """The other program takes its bytes while the engine starts."""
    async with placed(tmp_path, {"a": VramEngine(5 * GIB)}, {"a": 6 * GIB}) as place:
        nvml_here.card().set(base=12 * GIB)
        nvml_here.card().fail("nvmlDeviceGetMemoryInfo_v2", LOST, times=1)
        place.loop.post(LoadAsked(place.loop.now, "a"))
        await place.until(lambda: place.loop.slot("a").state != "loading")
        assert place.loop.slot("a").plan.size == 6 * GIB
        assert place.loop.state.foreign >= 12 * GIB


async def test_a_sleeper_is_measured_on_the_card_and_in_ram(
    nvml_here: FakeNvml, tmp_path: Path
) -> None:
    ram = 256 * MIB
    engines = {"a": VramEngine(9 * GIB, asleep=GIB, ram=ram), "b": VramEngine(9 * GIB)}
    reserved = {"a": 10 * GIB, "b": 10 * GIB}
    async with placed(tmp_path, engines, reserved, sleeps=True) as place:
        loop = place.loop
        loop.residents["a"].estimate = estimate(ram)
        total, available, _ = memory.ram()
        assert 0 < loop.state.host <= available - 0.1 * total + 0.02 * total
        await place.load("a")
        place.arrive("b")
        await place.reach(a="asleep", b="ready")
        plan = loop.slot("a").plan
        assert plan.asleep_size == GIB
        assert plan.size == 10 * GIB
        assert abs(plan.host_size - ram) < 0.05 * ram
        place.books_agree()


async def test_a_process_of_somebody_else_is_foreign(nvml_here: FakeNvml, tmp_path: Path) -> None:
    async with placed(tmp_path, {"a": VramEngine(5 * GIB)}, {"a": 6 * GIB}) as place:
        await place.load("a")
        other = VramEngine(7 * GIB)
        await other.start()
        await place.loop.watch.round()
        assert 7 * GIB <= place.loop.state.foreign <= 7 * GIB + NOTICED
        await other.stop()
        await place.loop.watch.round()
        assert place.loop.state.foreign == 0
