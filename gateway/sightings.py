"""The workers that beat lately, as this gateway saw them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import NamedTuple

import hiredis

from shared import keys
from shared.catalog import Catalog, Entry
from shared.clock import Clock
from shared.resp import Link, Lost
from shared.wire.node import ModelState, WorkerState, decode_state

LANE_GONE = 15.0
"""Seconds without a worker after which requests for its models are refused."""
BEST_FIRST: tuple[ModelState, ...] = ("ready", "loading", "asleep", "draining", "absent", "failed")
MEET_SECONDS = 60.0
MEET_EVERY = 0.05
"""Seconds between two looks for workers that are about to come."""

ELSEWHERE = ("openai", "ollama")
"""Engines whose models' files are not a worker's."""


def ignore(_: list[WorkerState]) -> None:
    """What workers offer is nothing new."""


class Seen(NamedTuple):
    at: float
    workers: list[WorkerState]


class Sightings:
    """`heard` gets the fresh workers after every look."""

    def __init__(
        self, link: Link, clock: Clock, heard: Callable[[list[WorkerState]], None] = ignore
    ) -> None:
        self._link = link
        self._clock = clock
        self._heard = heard
        self._lanes: dict[str, Seen] = {}
        self._next: asyncio.Future[None] | None = None
        """The look that begins when the one under way is over."""
        self._looking = asyncio.Lock()

    async def look_afresh(self) -> None:
        """A look that begins from now on; all who ask while another is under way share one."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._look_next())
        await asyncio.shield(self._next)

    async def try_to_look(self) -> None:
        """The same, where what was seen before has to do while Redis is away."""
        with contextlib.suppress(Lost, hiredis.HiredisError):
            await self.look_afresh()

    async def meet(self, catalog: Catalog) -> None:
        """Looks often while the hub starts: its first answer is not to wait for the next look."""
        end = self._clock.now() + MEET_SECONDS
        while self.missing(catalog) and self._clock.now() < end:
            await asyncio.sleep(MEET_EVERY)
            await self.try_to_look()

    async def _look_next(self) -> None:
        async with self._looking:
            self._next = None
            await self.look()

    async def look(self) -> None:
        """Reads every heartbeat; raises Lost or HiredisError."""
        await self._read()
        self._heard(self.workers())

    async def _read(self) -> None:
        since = self._clock.wall_ms() - keys.WORKER_MS
        names = await self._link.call("ZRANGE", keys.WORKERS, since, "+inf", "BYSCORE")
        if not names:
            return
        found = await self._link.call("MGET", *(keys.worker(n.decode()) for n in sorted(names)))
        now = self._clock.now()
        lanes: dict[str, list[WorkerState]] = {}
        for data in found:
            if data is not None:
                state = decode_state(data)
                lanes.setdefault(state.lane, []).append(state)
        for lane, workers in lanes.items():
            self._lanes[lane] = Seen(now, workers)

    def workers(self) -> list[WorkerState]:
        """Those whose heartbeat is fresh."""
        return [worker for lane in self._lanes for worker in self.lane(lane)]

    def lane(self, lane: str) -> list[WorkerState]:
        """The fresh workers of one lane, in the order of their names."""
        seen = self._lanes.get(lane)
        fresh = seen is not None and self._clock.now() - seen.at < keys.WORKER_MS / 1000
        return seen.workers if seen is not None and fresh else []

    def gone(self, lane: str) -> bool:
        """Whether nobody served this lane for a while."""
        seen = self._lanes.get(lane)
        return seen is None or self._clock.now() - seen.at > LANE_GONE

    def states(self) -> dict[str, ModelState]:
        """How each model stands where it stands best."""
        states: dict[str, ModelState] = {}
        for worker in self.workers():
            for name, model in worker.models.items():
                known = states.get(name, model.state)
                states[name] = min(known, model.state, key=BEST_FIRST.index)
        return states

    def failed(self) -> list[str]:
        """Models whose engines do not start; the others are served all the same."""
        return sorted(name for name, state in self.states().items() if state == "failed")

    def files(self, entry: Entry) -> str | None:
        """Names the files that a model answers from; None: not known, or workers' files differ.

        Empty for one that an upstream has.
        """
        if entry.model.engine in ELSEWHERE:
            return ""
        told = {
            report.files
            for worker in self.lane(entry.model.lane)
            if (report := worker.models.get(entry.base)) is not None
        }
        return (told.pop() or None) if len(told) == 1 else None

    def missing(self, catalog: Catalog) -> dict[str, str]:
        """What workers and models lack to answer, by name; empty when one model can."""
        lanes = {worker.lane for worker in self.workers()}
        if unserved := catalog.lanes() - lanes:
            return {f"worker {lane}": "not running" for lane in sorted(unserved)}
        offered = {entry.name for entry in catalog if entry.server}
        states = self.states()
        ours = [state for name, state in states.items() if name not in offered]
        theirs = [state for name, state in states.items() if name in offered]
        if catalog.servers and (not ours or any(state != "failed" for state in theirs)):
            # What is read from a file is waited for; a server that is away lacks nothing of ours.
            return {"models": "still loading"} if "loading" in ours and "ready" not in ours else {}
        if all(state == "failed" for state in ours):
            return {"models": "none could be started"}
        if all(state in ("loading", "failed") for state in ours):
            return {"models": "still loading"}
        return {}
