"""The loop on a fake card: real processes hold its bytes, other programs come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.estimate import Estimate
from shared.footprint import Key
from tests.fakes.nvml.card import GIB, FakeNvml
from tests.fakes.nvml.engine import VramEngine
from worker import memory, residency, resident
from worker.cuda import CudaDevice
from worker.foreign import step
from worker.gpu import Card
from worker.journal import Journal
from worker.ledger import Ledger
from worker.loop import Loop
from worker.occasion import Arrived, LoadAsked, UnloadAsked
from worker.residency import Plan
from worker.resident import Resident

CAPACITY = 16 * GIB
NOTICED = 2 * step(CAPACITY)
NOT_SUPPORTED, LOST = 3, 15
LISTS = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")
MIB = 1 << 20


class Place:
    """A card, its loop, and what tests ask of them."""

    def __init__(self, loop: Loop, ledger: Ledger, engines: dict[str, VramEngine]) -> None:
        self.loop = loop
        self.ledger = ledger
        self.engines = engines

    async def until(self, true: Callable[[], bool]) -> None:
        """Nothing tells when a state is reached, so it is looked at."""
        deadline = self.loop.now + 20
        while not true():
            assert self.loop.now < deadline, self.loop.state
            await asyncio.sleep(0.005)

    async def reach(self, **states: str) -> None:
        """Until models are in these states and nothing is under way."""
        await self.until(
            lambda: (
                self.loop.state.work is None
                and all(self.loop.slot(name).state == state for name, state in states.items())
            )
        )

    async def load(self, *names: str) -> None:
        for name in names:
            self.loop.post(LoadAsked(self.loop.now, name))
            await self.reach(**{name: "ready"})

    def arrive(self, name: str) -> None:
        self.loop.post(Arrived(self.loop.now, name, "interactive"))

    def measured(self, name: str) -> int | None:
        line = self.ledger.held(name)
        return None if line is None else line.measured

    def books_agree(self) -> None:
        """The scheduler and the ledger know of the same bytes."""
        state, books = self.loop.state, self.ledger.snapshot()
        assert (state.foreign, state.quarantined) == (books.foreign, books.quarantined)
        assert state.free == books.free
        assert books.over == 0


def estimate(takes: int) -> Estimate:
    """All of it weights."""
    return Estimate(
        engine="vllm",
        device="cuda",
        context=1,
        parallel=1,
        weights=takes,
        kv_cache=0,
        activations=0,
        logits=0,
        runtime=0,
    )


@asynccontextmanager
async def placed(
    folder: Path, engines: dict[str, VramEngine], reserved: dict[str, int], *, sleeps: bool = False
) -> AsyncIterator[Place]:
    card = Card(0)
    device = CudaDevice(card, card.describe(), contained=False)
    ledger = Ledger(device.name, device.total)
    residents, plans = {}, {}
    for name, engine in engines.items():
        key = Key("fake", name, "vllm", 1, 1)
        residents[name] = Resident(
            name, engine, device, ledger, reserved[name], estimate(reserved[name]), key, {}
        )
        plans[name] = Plan(
            size=reserved[name], load_seconds=0.1, keep_alive=-1, can_sleep=sleeps, host_size=GIB
        )
    clock = SystemClock()
    rules = residency.Rules(stay=0.0, linger=0.0)
    state = residency.device(plans, CAPACITY, now=clock.now(), rules=rules)
    loop = Loop(residents, state, device, ledger, Journal(folder, "test", clock), None, clock)
    try:
        await loop.watch.round()
        yield Place(loop, ledger, engines)
    finally:
        await loop.close()
        device.close()


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
