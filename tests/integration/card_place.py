"""A worker's loop on a fake card, with engines that hold its bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from shared.clock import SystemClock
from shared.footprint import Key
from tests.estimates import estimate
from tests.fakes.nvml.card import GIB
from tests.fakes.nvml.engine import VramEngine
from worker import residency
from worker.cuda import CudaDevice
from worker.gpu import Card
from worker.journal import Journal
from worker.ledger import Ledger
from worker.loop import Loop
from worker.occasion import Arrived, LoadAsked
from worker.residency import Plan
from worker.resident import Resident

CAPACITY = 16 * GIB


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
