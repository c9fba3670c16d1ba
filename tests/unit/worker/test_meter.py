"""What a request is said to have used, and its share of the card."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from shared import ids
from shared.errors import EngineFailed
from shared.queue import Claimed
from shared.wire.event import Usage
from shared.wire.task import Adapter, Origin, Task
from tests.loops import around
from tests.unit.worker.scripted import Place, Scripted, journals, says
from worker.batches import Batches, energy_at
from worker.engines.base import Generation, Sink
from worker.functions import chat
from worker.gpu import Memory, Sample
from worker.meter import Known, Meter, plain, total

ORIGIN = Origin(ids.new("req_"), "proj_1", "chat/completions")
CAME = ids.wall_ms(ORIGIN.request)


class Clock:
    """`now` in seconds; the wall clock shows the same, from when the request came."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def wall_ms(self) -> int:
        return CAME + round(self.seconds * 1000)


def task(origin: Origin | None = ORIGIN) -> Task:
    return Task(
        *("job-1", "chat", "m", "gw-1", 7, True, b"{}", "key_1", "batch", CAME + 60_000),
        *(Adapter("law@2", "law"), origin),
    )


class Card:
    """A card whose last look is `sample`; it has the model `m` on it, or not."""

    def __init__(self, clock: Clock, *, reserved: int = 1, kind: str = "cuda") -> None:
        loop = around({"m": Scripted(says("a"))}, journals(), size=reserved)
        self.sample: Sample | None = None
        self.batches = Batches(loop.residents, kind == "cuda", lambda: self.sample, clock)


def meter(clock: Clock, card: Card | None = None, attempt: int = 1, **values: object) -> Meter:
    claimed = Claimed("aihub:queue:m", "job-1", attempt, task(**values), b"")  # type: ignore[arg-type]
    return Meter(claimed, 0.25, (card or Card(clock)).batches, clock)


def test_an_event_has_everything() -> None:
    clock = Clock()
    clock.seconds = 2.0
    it = meter(clock)
    clock.seconds = 2.5
    it.begin()
    clock.seconds = 2.7
    it.begin()
    it.count([Known(Usage(10, 4, 6)), Known(Usage(10, 3, 0))], 2)
    event = it.event(None)
    assert event is not None
    assert (event.ts_ms, event.request_id) == (CAME, ORIGIN.request)
    assert (event.project, event.key, event.model) == ("proj_1", "key_1", "m")
    assert (event.adapter, event.endpoint, event.service) == ("law@2", "chat/completions", "batch")
    assert (event.tokens_in, event.tokens_cached, event.tokens_out) == (10, 6, 7)
    assert (event.queue_ms, event.load_ms, event.first_ms) == (2_000, 1_750, 2_500)
    assert (event.total_ms, event.status, event.code) == (2_700, 200, None)
    assert (event.gpu_ms, event.millijoules, event.cache) == (0, None, "none")


def test_a_later_attempt_knows_neither_its_wait_nor_its_first_token() -> None:
    clock = Clock()
    it = meter(clock, attempt=2)
    it.begin()
    event = it.event(EngineFailed("broke").failed())
    assert event is not None
    assert (event.queue_ms, event.load_ms, event.first_ms) == (None, None, None)
    assert (event.status, event.code) == (500, "engine_failed")


def test_what_nobody_asked_for_is_not_written_down() -> None:
    assert meter(Clock(), origin=None).event(None) is None


def test_clocks_that_differ_make_no_negative_times() -> None:
    clock = Clock()
    clock.seconds = -3
    it = meter(clock)
    it.begin()
    event = it.event(None)
    assert event is not None
    assert (event.queue_ms, event.first_ms, event.total_ms) == (0, 0, 0)


def test_the_seconds_of_a_batch_are_divided() -> None:
    clock = Clock()
    card = Card(clock)
    one, two = meter(clock, card), meter(clock, card)
    with one.computing():
        clock.seconds = 1
        with two.computing():
            clock.seconds = 3
        clock.seconds = 4
    clock.seconds = 9
    events = [it.event(None) for it in (one, two)]
    assert [event.gpu_ms for event in events if event is not None] == [3_000, 1_000]


def test_the_choices_of_a_request_have_a_share_each() -> None:
    clock = Clock()
    card = Card(clock)
    one, two = meter(clock, card), meter(clock, card)
    with one.computing(), one.computing(), two.computing():
        clock.seconds = 3
    events = [it.event(None) for it in (one, two)]
    assert [event.gpu_ms for event in events if event is not None] == [2_000, 1_000]


def test_a_cpu_and_a_model_that_runs_elsewhere_have_no_gpu_seconds() -> None:
    clock = Clock()
    for card in (Card(clock, kind="cpu"), Card(clock, reserved=0)):
        card.sample = SAMPLE
        it = meter(clock, card)
        with it.computing():
            clock.seconds += 1
        event = it.event(None)
        assert event is not None
        assert (event.gpu_ms, event.millijoules) == (0, None)


SAMPLE = Sample(
    at=0.0,
    memory=Memory(total=1, reserved=0, free=1, used=0),
    processes=(),
    busy_percent=None,
    memory_busy_percent=None,
    power_mw=50_000,
    power_limit_mw=None,
    energy_mj=1_000_000,
    celsius=None,
)


def test_the_energy_of_the_card_is_divided() -> None:
    clock = Clock()
    card = Card(clock)
    card.sample = SAMPLE
    one, two = meter(clock, card), meter(clock, card)
    with one.computing():
        clock.seconds = 1
        card.sample = replace(SAMPLE, at=1.0, energy_mj=1_080_000)
        with two.computing():
            clock.seconds = 2
    events = [it.event(None) for it in (one, two)]
    joules = [event.millijoules for event in events if event is not None]
    assert joules == [80_000 + 25_000, 25_000]


def test_a_card_that_counts_no_energy_leaves_it_open() -> None:
    clock = Clock()
    card = Card(clock)
    card.sample = replace(SAMPLE, energy_mj=None)
    it = meter(clock, card)
    with it.computing():
        card.sample = SAMPLE
        clock.seconds = 1
    event = it.event(None)
    assert event is not None
    assert (event.gpu_ms, event.millijoules) == (1_000, None)


def test_energy_between_two_looks_goes_on_with_the_power() -> None:
    assert energy_at(SAMPLE, 0.5) == 1_025_000
    assert energy_at(replace(SAMPLE, power_mw=None), 9.0) == 1_000_000
    assert energy_at(None, 1.0) is None


def test_a_prompt_counts_once_whichever_choice_knows_it() -> None:
    assert total([Usage(0, 2), Usage(9, 3, 4)], 2) == Usage(9, 5, 4)
    assert total([Usage(5, 1), Usage(6, 1)], 1) == Usage(11, 2)
    assert total([], 1) == Usage()


def test_an_engines_word_fits_the_ledger() -> None:
    assert plain("a\x00b" + "c" * 100) == "ab" + "c" * 62


async def cut_off(*said: str | Usage) -> Usage:
    """What a request has used that is cancelled when its engine has said this."""
    reached = asyncio.Event()

    async def play(generation: Generation, sink: Sink) -> Usage:
        for one in said:
            if isinstance(one, str):
                sink.text(one)
            else:
                sink.count(one)
        reached.set()
        await asyncio.Event().wait()
        return Usage()

    request = Place(Scripted(play)).request()
    running = asyncio.create_task(chat({"request": request}))
    async with asyncio.timeout(5):
        await reached.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return request.meter.usage


async def test_a_choice_that_is_cut_off_counts_its_pieces() -> None:
    assert await cut_off() == Usage()
    assert await cut_off("a", "b") == Usage(0, 2)


async def test_a_choice_that_is_cut_off_counts_what_its_engine_said() -> None:
    assert await cut_off(Usage(7, 1, 2), "a", Usage(7, 3, 2)) == Usage(7, 3, 2)
