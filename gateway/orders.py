"""Orders of administrators: sent to the workers they concern, and followed to their end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import hiredis

from gateway.sightings import BEST_FIRST, Sightings
from shared import ids, keys, line, log, wake
from shared.catalog import Entry
from shared.clock import Clock
from shared.errors import (
    EngineFailed,
    HubError,
    InvalidValue,
    ModelNotFound,
    ModelUnavailable,
    QueueUnavailable,
    RequestTimeout,
)
from shared.placement import place
from shared.resp import Link, Lost
from shared.wire.event import Failed, Order, Ordered, What, decode_ordered
from shared.wire.node import AdapterState, ModelReport, ModelState, WorkerState, decode_state

ANSWER_WITHIN = 5.0
"""Seconds a worker has to answer an order."""
FIRST_LOOK = 0.005
LONGEST_LOOK = 0.2
"""Seconds between two looks for an answer, or at a heartbeat."""

logger = log.get("orders")


class Refused(HubError):
    """A worker's own words."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message, param=failed.param, retry_after=failed.retry_after)
        self._failed = failed

    def failed(self) -> Failed:
        return self._failed


class Obeyed(NamedTuple):
    """How a model stood on a worker when it had obeyed, and before; `at_ms` by its clock."""

    worker: WorkerState
    report: ModelReport
    at_ms: int
    before: ModelReport


class Orders:
    """Every method raises QueueUnavailable when Redis does not answer."""

    def __init__(self, link: Link, sightings: Sightings, clock: Clock) -> None:
        self._link = link
        self._sightings = sightings
        self._clock = clock

    async def workers(self) -> list[WorkerState]:
        """Their heartbeats as they are now."""
        try:
            await self._sightings.look()
        except (Lost, hiredis.HiredisError) as error:
            raise away(error) from error
        return self._sightings.workers()

    async def lines(self, models: Sequence[str]) -> dict[str, line.Line]:
        """The line of each model."""
        try:
            found = await line.waiting(self._link, [keys.queue(name) for name in models])
        except (Lost, hiredis.HiredisError) as error:
            raise away(error) from error
        return dict(zip(models, found.values(), strict=True))

    async def load(self, entry: Entry, worker: str | None, *, pin: bool) -> list[Obeyed]:
        """Has a model, or the base of an adapter and then the adapter, loaded on one worker, where
        it is best.

        Raises Refused, ModelUnavailable, RequestTimeout, InvalidValue for an unknown worker.
        """
        able = named(await self.workers(), entry, worker)
        chosen = self._choose(able, entry.base)
        before = await self._send(chosen, "pin", entry) if pin else None
        obeyed = await self._send(chosen, "load", entry)
        return [obeyed if before is None else obeyed._replace(before=before.before)]

    async def change(self, what: What, entry: Entry, worker: str | None) -> list[Obeyed]:
        """Unloads, pins or unpins a model on the named worker, or everywhere; one that is nowhere
        is pinned where a load would go. Raises as `load` does.
        """
        able = named(await self.workers(), entry, worker)
        if what == "pin" and worker is None:
            able = [w for w in able if there(w, entry.base)] or [self._choose(able, entry.base)]
        return list(await asyncio.gather(*(self._send(w, what, entry) for w in able)))

    async def loaded(self, entry: Entry, obeyed: Obeyed, within: float) -> Obeyed:
        """Returns when it is ready, which this gateway knows then, too.

        Raises EngineFailed with the engine's last words, Refused, ModelUnavailable when the load
        was given up, RequestTimeout.
        """
        state = obeyed.report.state
        try:
            async with asyncio.timeout(within):
                async for seen in self._follow(entry, obeyed):
                    state = seen.report.state
                    if ready(entry, seen.report):
                        await self.workers()
                        return seen
                    if broken := fault(entry, seen):
                        raise broken
                    if adapter_state(entry, seen.report) == "failed":
                        await self._send(seen.worker, "load", entry)
        except TimeoutError:
            raise RequestTimeout(
                f"{entry.name!r} is {state} after {within:g} seconds; its load goes on.",
                param="wait",
            ) from None
        raise gone(obeyed.worker.name, entry)

    async def unloaded(self, entry: Entry, obeyed: Obeyed, within: float) -> Obeyed:
        """Returns when its engine has gone, or somebody wants it again; raises RequestTimeout."""
        passing: tuple[ModelState, ...] = ("draining",)
        if obeyed.report.state == "loading":
            # What is loading leaves when it is ready and idle.
            passing = ("loading", "ready", "draining")
        seen = obeyed
        try:
            async with asyncio.timeout(within):
                async for seen in self._follow(entry, obeyed):
                    if seen.report.state not in passing:
                        await self.workers()
                        return seen
        except TimeoutError:
            raise RequestTimeout(
                f"{entry.name!r} is {seen.report.state} after {within:g} seconds, it serves"
                f" {seen.report.serving}; it goes when they are answered.",
                param="wait",
            ) from None
        raise gone(obeyed.worker.name, entry)

    def _choose(self, able: Sequence[WorkerState], model: str) -> WorkerState:
        """Where it is, else where a request would have it loaded."""
        having = [w for w in able if there(w, model)]
        if having:
            return min(having, key=lambda w: (BEST_FIRST.index(w.models[model].state), w.name))
        placed = place(able, model, self._clock.wall_ms())
        assert placed is not None
        return next(worker for worker in able if worker.name == placed.worker)

    async def _send(self, worker: WorkerState, what: What, entry: Entry) -> Obeyed:
        order = Order(ids.new("ord-"), what, entry.base, entry.adapter)
        logger.info("order", what=what, model=entry.name, worker=worker.name)
        wake.tell(self._link, worker.name, order)
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                answer = await self._answer(order)
        except TimeoutError:
            raise RequestTimeout(
                f"The worker {worker.name} did not answer within {ANSWER_WITHIN:g} seconds."
            ) from None
        except (Lost, hiredis.HiredisError) as error:
            raise away(error) from error
        if answer.failed is not None:
            raise Refused(answer.failed)
        assert answer.report is not None and answer.before is not None
        return Obeyed(worker, answer.report, answer.at_ms, answer.before)

    async def _answer(self, order: Order) -> Ordered:
        pause = FIRST_LOOK
        while True:
            found = await self._link.call("GETDEL", keys.order(order.id))
            if found is not None:
                return decode_ordered(found)
            await asyncio.sleep(pause)
            pause = min(LONGEST_LOOK, pause * 2)

    async def _follow(self, entry: Entry, obeyed: Obeyed) -> AsyncIterator[Obeyed]:
        """How the model stands from then on; ends when the worker is silent."""
        yield obeyed
        said, pause = obeyed.at_ms, FIRST_LOOK
        while True:
            await asyncio.sleep(pause)
            pause = min(LONGEST_LOOK, pause * 2)
            try:
                found = await self._link.call("GET", keys.worker(obeyed.worker.name))
            except (Lost, hiredis.HiredisError) as error:
                raise away(error) from error
            if found is None:
                return
            worker = decode_state(found)
            if entry.base not in worker.models:
                raise ModelNotFound(f"{entry.base!r} is not there any more.", param="model")
            if worker.at_ms > said:
                said = worker.at_ms
                yield Obeyed(worker, worker.models[entry.base], worker.at_ms, obeyed.before)


def named(workers: Sequence[WorkerState], entry: Entry, worker: str | None) -> list[WorkerState]:
    """The live workers that serve a model, or the one of that name."""
    able = [one for one in workers if entry.base in one.models]
    if worker is not None:
        chosen = [one for one in able if one.name == worker]
        if not chosen:
            known = ", ".join(one.name for one in able) or "none"
            raise InvalidValue(
                f"No worker {worker!r} serves {entry.name!r}. Those that do: {known}.",
                param="worker",
            )
        return chosen
    if not able:
        raise ModelUnavailable(
            f"No worker serves {entry.name!r} (lane {entry.model.lane!r}) right now.",
            param="model",
            retry_after=5,
        )
    return able


def there(worker: WorkerState, model: str) -> bool:
    return worker.models[model].state not in ("absent", "failed")


def ready(entry: Entry, report: ModelReport) -> bool:
    adapted = entry.adapter is None or adapter_state(entry, report) == "ready"
    return report.state == "ready" and adapted


def adapter_state(entry: Entry, report: ModelReport) -> AdapterState | None:
    return None if entry.adapter is None else report.adapters.get(entry.adapter.name)


def fault(entry: Entry, seen: Obeyed) -> HubError | None:
    """Why a load that was ordered has come to nothing."""
    report = seen.report
    if report.asked or report.state in ("loading", "ready"):
        return None
    if report.state == "failed":
        return EngineFailed(f"{entry.base} did not start: {report.why}", param="model")
    if report.pinned:
        return None
    last = [note.text for note in seen.worker.decisions if entry.base in note.models]
    told = f": {last[-1]}" if last else ""
    return ModelUnavailable(f"The load of {entry.base} was given up{told}.", param="model")


def away(error: Exception) -> QueueUnavailable:
    return QueueUnavailable(f"The queue cannot be reached: {error}", retry_after=2)


def gone(worker: str, entry: Entry) -> ModelUnavailable:
    return ModelUnavailable(
        f"The worker {worker} went away before {entry.name!r} was done.", param="model"
    )
