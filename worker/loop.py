"""The one owner of a device's state: puts events to the scheduler and performs what it decides.

The decisions are in scheduler.py and read no clock; what they are about happens here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from msgspec.structs import replace

from shared import log
from shared.clock import Clock
from shared.db import Pool
from shared.errors import HubError
from shared.wire.task import Class
from worker import device as hardware
from worker import effect, occasion
from worker.adapter_bytes import AdapterBytes
from worker.adapters import Adapters
from worker.adapting import Adapting
from worker.effect import Effect, gone
from worker.engines.base import Engine
from worker.journal import Journal
from worker.ledger import Ledger
from worker.occasion import LoadAsked, Occasion, Pin, UnloadAsked
from worker.operations import Operations
from worker.places import Grant, Parking, PassedOn, Returning
from worker.port import Port
from worker.residency import Device, Plan, Slot, moved
from worker.resident import Resident
from worker.retirement import Retirement
from worker.scheduler import decide
from worker.tasks import Tasks
from worker.watch import Watch

ELSEWHERE = ("too_large", "failed")
"""Refusals that another worker need not share."""

logger = log.get("loop")


class Loop:
    """`post` is the only way in; everything runs on one event loop, one event after another."""

    def __init__(
        self,
        residents: dict[str, Resident],
        state: Device,
        device: hardware.Device,
        ledger: Ledger,
        journal: Journal,
        pool: Pool | None,
        clock: Clock,
    ) -> None:
        self.residents = residents
        self.state = state
        self.holds: dict[str, str] = {}
        """What those who wait for a model wait for, in words."""
        self._port: Port | None = None
        self.device = device
        self.ledger = ledger
        self.watch = Watch(device, ledger, residents, self)
        self._operations = Operations(residents, self.watch, pool, self)
        self.journal = journal
        self._pool = pool
        self._clock = clock
        self._runs = dict.fromkeys(residents, 0)
        self._returning = Returning(residents, self)
        self._parking = Parking(residents, self)
        self._inbox: deque[Occasion] = deque()
        self._deciding = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks = Tasks()
        self.adapters = {
            name: self._adapters(resident, resident.adapting)
            for name, resident in residents.items()
            if resident.adapting is not None
        }
        self._refused: dict[str, HubError] = {}
        """The last refusal of each model, for who asked for it."""

    def open(self, port: Port, preload: Sequence[str], pinned: Sequence[str] = ()) -> None:
        """Begins to decide; models that are pinned load, then those to preload that fit."""
        self._port = port
        self._tasks.spawn(self.watch.run())
        self._tasks.spawn(Retirement(self.adapters).run())
        self.post(occasion.Tick(self.now))
        for name in pinned:
            self.post(Pin(self.now, name, True))
        room = self.state.capacity - sum(s.plan.size for s in self.state.slots.values() if s.pinned)
        for name in preload:
            slot = self.slot(name)
            if not slot.pinned and slot.plan.size <= room:
                room -= slot.plan.size
                self.post(occasion.LoadAsked(self.now, name))

    async def close(self) -> None:
        """Ends every engine."""
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.cancel()
        for resident in self.residents.values():
            await resident.remember(self._pool)
        await asyncio.gather(*(resident.engine.stop() for resident in self.residents.values()))
        self.journal.close()

    def offer(self, resident: Resident, plan: Plan) -> None:
        """One more model, whose name is new."""
        name = resident.name
        self.residents[name] = resident
        self._runs[name] = 0
        self._returning.open(name)
        self._parking.open(name)
        self.post(occasion.Planned(self.now, name, plan))
        if self._port is not None:
            self._port.offer(name)

    def withdraw(self, model: str) -> None:
        """Nobody gets it any more; it is forgotten when what it serves is over. Idempotent."""
        if model in self.residents and not self.slot(model).gone:
            self.post(occasion.Withdrawn(self.now, model))

    def _forget(self, model: str) -> None:
        logger.info("forgotten", model=model)
        del self.residents[model], self._runs[model]
        self._returning.close(model, gone(model))
        self._parking.close(model)
        self.holds.pop(model, None)
        if self._port is not None:
            self._port.forget(model)

    @property
    def now(self) -> float:
        return self._clock.now()

    def returning(self, model: str) -> int:
        """Requests whose engine died and that wait for its next run; no queue knows them."""
        return self._returning.count(model)

    def ready_for(self, model: str) -> float | None:
        """Seconds since the model became ready; None: it is not."""
        slot = self.state.slots.get(model)
        return self.now - slot.since if slot and slot.state == "ready" else None

    def slot(self, model: str) -> Slot:
        return self.state.slots[model]

    def resident(self, model: str) -> Resident:
        """Raises ModelNotFound for one that was forgotten."""
        try:
            return self.residents[model]
        except KeyError:
            raise gone(model) from None

    def post(self, event: Occasion) -> None:
        """Decides on an event and performs the effects; events that those cause follow in turn."""
        self._inbox.append(event)
        if self._deciding:
            return
        self._deciding = True
        try:
            while self._inbox:
                self._decide(self._inbox.popleft())
        finally:
            self._deciding = False

    def order(self, event: LoadAsked | UnloadAsked | Pin) -> HubError | None:
        """Posts what an administrator wants; the error, where it is refused at once."""
        self._refused.pop(event.model, None)
        self.post(event)
        return self._refused.pop(event.model, None)

    def grant(self, model: str) -> Grant:
        """A place that was admitted just now."""
        return Grant(model, self._runs[model], self.now)

    def valid(self, grant: Grant) -> bool:
        """Whether the run of the engine that it is a place in goes on."""
        return grant.run == self._runs.get(grant.model)

    def end(self, grant: Grant, keep_alive: float | None = None, *, answered: bool = True) -> None:
        """An admitted request is over. One whose engine died was over with it."""
        if grant.model not in self.residents:
            return
        self.residents[grant.model].requests += answered
        if self.valid(grant):
            if answered:
                self.residents[grant.model].took(self.now - grant.since)
            self.post(occasion.Ended(self.now, grant.model, 1, keep_alive, answered))

    def give_back(self, model: str, count: int) -> None:
        """Requests that were admitted and could not be taken from the queue after all."""
        self.post(occasion.Ended(self.now, model, count, None, answered=False))

    def park(self, grant: Grant) -> Grant:
        """Its request waits for an adapter and gives its place to others; a void one for it."""
        return self._parking.park(grant)

    async def resume(self, model: str, service: Class) -> tuple[Grant, Engine]:
        """One that was parked has what it waited for, and stands in line for a place.

        It stands there before the place that is kept is given up, or the model might leave
        between; and it waits there without it, or a model that drains might never.
        """
        returned = self._returning.line_up(model, service)
        self.unpark(model)
        return await self._returning.wait(model, returned), self.residents[model].engine

    def unpark(self, model: str) -> None:
        """One that was parked does not wait any more."""
        self._parking.unpark(model)

    def _adapters(self, resident: Resident, adapting: Adapting) -> Adapters:
        def replan(size: int) -> None:
            plan = replace(self.slot(resident.name).plan, size=size)
            self.post(occasion.Planned(self.now, resident.name, plan))

        bytes = AdapterBytes(resident, lambda: self.state.free, replan)
        return Adapters(resident.engine, adapting, bytes, self._tasks.spawn, self._clock)

    async def engine(self, grant: Grant, service: Class) -> tuple[Grant, Engine]:
        """The engine behind a grant; when it died since, its next run, after waiting in line.

        Raises ModelUnavailable when the model does not come back, ModelNotFound as `resident` does.
        """
        resident = self.resident(grant.model)
        if self.valid(grant):
            if resident.engine.alive:
                return grant, resident.engine
            self.died(grant.model, "its process ended")
        returned = self._returning.line_up(grant.model, service)
        return await self._returning.wait(grant.model, returned), resident.engine

    def _decide(self, event: Occasion) -> None:
        before = self.state
        outcome = decide(before, event)
        self.state = outcome.after
        self.journal.note(before, event, outcome)
        for order in outcome.effects:
            self._perform(order)
        if self._port is not None and moved(before, self.state):
            self._port.changed()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if outcome.next_at is not None:
            later = max(0.0, outcome.next_at - self.now)
            self._timer = asyncio.get_running_loop().call_later(
                later, lambda: self.post(occasion.Tick(self.now))
            )

    def _perform(self, order: Effect) -> None:
        match order:
            case effect.Load() | effect.Wake() | effect.Sleep() | effect.Stop():
                self._tasks.spawn(self._operations.perform(order))
            case effect.Admit():
                self._admit(order.model, order.count)
            case effect.Refuse():
                self._refuse(order)
            case effect.Hold():
                self.holds[order.model] = order.why
            case effect.Evict():
                logger.info("evict", model=order.model, cause=order.cause, why=order.why)
            case effect.Keep():
                logger.info("keep", model=order.model, why=order.why)
            case effect.Forget():
                self._forget(order.model)

    def _admit(self, model: str, count: int) -> None:
        """Those whose engine died come before those who still wait in the queue."""
        self.holds.pop(model, None)
        count = self._returning.admit(model, count)
        if count and self._port is not None:
            self._port.admit(model, count)

    def _refuse(self, order: effect.Refuse) -> None:
        logger.warning("refused", model=order.model, code=order.code, why=order.why)
        error = effect.error(order)
        self._refused[order.model] = error
        if order.code == "pinned_over_budget":
            return
        if self._port is not None:
            self._port.refuse(order.model, error, elsewhere=order.code in ELSEWHERE)
        else:
            self.turn_away(order.model, error)

    def turn_away(self, model: str, why: HubError | PassedOn) -> None:
        """Ends the wait of requests whose engine died, which no queue knows."""
        self._returning.refuse(model, why)

    async def prepare(self, model: str) -> None:
        """An engine is about to start: it may be told of its adapters before."""
        if model in self.adapters:
            await self.adapters[model].prepare()

    def begun(self, model: str) -> None:
        """A run of an engine begins; it is watched to its end."""
        self._runs[model] += 1
        self._tasks.spawn(self._watch_engine(self.residents[model], self._runs[model]))
        if model in self.adapters:
            self.adapters[model].began()

    def over(self, model: str) -> None:
        """A run is over, and every place in it void."""
        self._runs[model] += 1
        if model in self.adapters:
            self.adapters[model].ended()

    async def _watch_engine(self, resident: Resident, run: int) -> None:
        await resident.engine.ended()
        if self._runs.get(resident.name) == run:
            self.died(resident.name, "its process ended")

    def died(self, model: str, why: str) -> None:
        """An engine is gone, and with it all it served."""
        self.over(model)
        logger.warning("engine died", model=model, why=why)
        self.post(occasion.Died(self.now, model, why))
