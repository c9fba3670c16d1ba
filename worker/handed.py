"""Requests that came with their call: they are this worker's already.

Each gets the place that its arrival leads to, or goes into line if there is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import hiredis

from shared import log, queue
from shared.errors import HubError
from shared.queue import Claimed
from shared.resp import Link, Lost
from worker.effect import gone
from worker.line import Lines
from worker.places import NO_RUN, Grant

MOST_LEFT = 256

logger = log.get("handed")


class Handed:
    """`begin` gets a job with its place in an engine, or with why it is refused; `drop` one that
    nobody waits for. `runs` knows the jobs that run here."""

    def __init__(
        self,
        link: Link,
        worker: str,
        lines: Lines,
        runs: Callable[[str], bool],
        begin: Callable[[Claimed, Grant, HubError | None], None],
        drop: Callable[[Claimed], None],
    ) -> None:
        self._link = link
        self._worker = worker
        self._lines = lines
        self._runs = runs
        self._begin = begin
        self._drop = drop
        self._stopped = False
        self._left: dict[str, None] = {}
        """The last ones cancelled that did not run: a cancellation may overtake its job."""
        self._decided: dict[str, Claimed] = {}
        """The one of a model whose arrival is being decided on."""
        self._tasks: set[asyncio.Task[None]] = set()

    def receive(self, call: bytes, *, late: bool) -> None:
        """`late`: its lease may be over, so Redis is asked whose it is."""
        job = queue.receive(self._link, self._worker, call)
        if job is None or self._runs(job.id):
            # As a later attempt, where it runs.
            return
        if late:
            self._spawn(self._check(job))
        else:
            self._take(job)

    def left(self, id_: str) -> None:
        """Nobody waits for a job that does not run here."""
        self._left[id_] = None
        if len(self._left) > MOST_LEFT:
            del self._left[next(iter(self._left))]

    def take(self, model: str) -> Claimed | None:
        """The one that is being decided on; the caller begins it."""
        return self._decided.pop(model, None)

    def stop(self) -> None:
        """From now on all go into line, for others."""
        self._stopped = True

    def _take(self, job: Claimed) -> None:
        if job.id in self._left:
            del self._left[job.id]
            self._drop(job)
            return
        model = self._lines.models.get(job.queue)
        if model is None:
            self._begin(job, Grant(job.task.model, NO_RUN), gone(job.task.model))
            return
        if not self._stopped:
            self._decided[model] = job
            self._lines.arrived(job.queue)
            if self._decided.pop(model, None) is None:
                return
        self._spawn(self._decline(job))

    async def _check(self, job: Claimed) -> None:
        lost = await queue.renew(self._link, self._worker, {job.id: job.queue})
        if not lost and not self._runs(job.id):
            self._take(job)

    async def _decline(self, job: Claimed) -> None:
        if not await queue.decline(self._link, job, self._worker):
            self._drop(job)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (Lost, hiredis.HiredisError) as error:
            logger.warning("what was handed over comes back by itself", error=str(error))
