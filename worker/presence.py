"""What a worker says of itself to the others, and what it does for one that fell silent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from shared import keys, log, queue
from shared.clock import Clock
from shared.resp import Link
from shared.wire.node import ModelReport, WorkerState, decode_state, encode_state
from worker.report import Report

BEAT_GAP = 0.2
"""Seconds between two heartbeats at least."""
FORGOTTEN_MS = 60_000
"""Workers that were silent for this long are taken off the list."""

logger = log.get("presence")


def died(pid: int) -> bool:
    """Whether no process of that id is left on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


class Inheritance(NamedTuple):
    alone: bool
    """No other worker of the lane is known."""
    models: frozenset[str]
    """What a predecessor had or was called for."""


def busy(model: ModelReport) -> bool:
    return model.state not in ("absent", "failed") or model.waiting > 0


class Presence:
    def __init__(self, link: Link, name: str, lane: str, clock: Clock) -> None:
        self._link = link
        self._name = name
        self._lane = lane
        self._clock = clock
        self._host = socket.gethostname()
        self._started_ms = clock.wall_ms()
        self.stale = asyncio.Event()
        """Set when the last heartbeat is not true any more."""

    async def pulse(self, beat: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Beats every second, and soon when it is stale."""
        while True:
            self.stale.clear()
            await beat()
            await asyncio.sleep(BEAT_GAP)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1 - BEAT_GAP):
                    await self.stale.wait()

    async def beat(self, running: int, report: Report) -> None:
        """One heartbeat; the list keeps only names that beat lately."""
        await report.look()
        now = self._clock.wall_ms()
        state = WorkerState(
            name=self._name,
            lane=self._lane,
            host=self._host,
            pid=os.getpid(),
            started_ms=self._started_ms,
            at_ms=now,
            running=running,
            device=report.device(),
            models=report.models(),
            decisions=report.decisions(),
            offered=report.offered(),
        )
        await asyncio.gather(
            self._link.call(
                "SET", keys.worker(self._name), encode_state(state), "PX", keys.WORKER_MS
            ),
            self._link.call("ZADD", keys.WORKERS, now, self._name),
            self._link.call("ZREMRANGEBYSCORE", keys.WORKERS, "-inf", now - FORGOTTEN_MS),
        )

    async def register(self) -> None:
        """Counts as living from now on, before there is a heartbeat to read."""
        await self._link.call("ZADD", keys.WORKERS, self._clock.wall_ms(), self._name)

    async def take_over(self, report: Report, queues: Sequence[str]) -> Inheritance:
        """Frees at once what a worker of this lane and device held that died on this host."""
        alone, models = True, set[str]()
        ours = (self._lane, self._host, report.device().name)
        since = self._clock.wall_ms() - keys.WORKER_MS
        living = await self._link.call("ZRANGE", keys.WORKERS, since, "+inf", "BYSCORE")
        for data in await self._link.call("ZRANGE", keys.WORKERS, 0, -1):
            name = data.decode()
            found = await self._link.call("GET", keys.worker(name))
            if found is None:
                # One that is just about to say what it has, of whatever lane.
                alone = alone and data not in living
                continue
            state = decode_state(found)
            if (state.lane, state.host, state.device.name) == ours and died(state.pid):
                lines = dict.fromkeys([*queues, *map(keys.queue, state.models)])
                held = await queue.reclaim(self._link, name, list(lines))
                await self._forget(name)
                models |= {model for model, known in state.models.items() if busy(known)}
                logger.info("took over from a dead worker", worker=name, jobs=held)
            elif state.lane == self._lane:
                alone = False
        return Inheritance(alone, frozenset(models))

    async def leave(self) -> None:
        await self._forget(self._name)

    async def _forget(self, name: str) -> None:
        await self._link.call("DEL", keys.worker(name), keys.control(name))
        await self._link.call("ZREM", keys.WORKERS, name)
