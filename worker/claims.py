"""Takes requests off the queues: as many as the loop admits, or all of them to refuse them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import hiredis

from shared import keys, line, log, queue, wake
from shared.errors import HubError
from shared.queue import Claimed
from shared.resp import Link, Lost
from worker.effect import gone
from worker.handed import Handed
from worker.line import Lines
from worker.loop import Loop
from worker.places import NO_RUN, Grant, PassedOn
from worker.siblings import Siblings

REFUSED_AT_ONCE = 256
"""Jobs taken off a queue in one call to be refused."""

logger = log.get("claims")


class Claims:
    """`begin` gets each job with its place in an engine, or with why it is refused."""

    def __init__(
        self,
        link: Link,
        worker: str,
        loop: Loop,
        lines: Lines,
        handed: Handed,
        siblings: Siblings,
        begin: Callable[[Claimed, Grant, HubError | None], None],
    ) -> None:
        self._link = link
        self._worker = worker
        self._loop = loop
        self._lines = lines
        self._handed = handed
        self._siblings = siblings
        self._begin = begin
        self._stopped = False
        self._claiming: asyncio.Task[None] | None = None
        self._refusing: set[asyncio.Task[None]] = set()

    def admit(self, model: str, count: int) -> None:
        """Takes so many waiting requests; a round of claims under way is followed by another."""
        handed = self._handed.take(model) if count else None
        if handed is not None:
            self._begin(handed, self._loop.grant(model), None)
            count -= 1
            if not count:
                return
        self._lines.admitted[keys.queue(model)] += count
        if self._claiming is None and not self._stopped:
            self._claiming = asyncio.create_task(self._claim())

    def refuse(self, model: str, error: HubError, *, elsewhere: bool) -> None:
        """Takes all who wait for a model off its queue with an error.

        `elsewhere`: or leaves them there and calls another worker, where one may have the model.
        """
        handed = None if elsewhere else self._handed.take(model)
        if handed is not None:
            self._begin(handed, Grant(model, NO_RUN), error)
        task = asyncio.create_task(self._turn_away(model, error, elsewhere=elsewhere))
        self._refusing.add(task)
        task.add_done_callback(self._refusing.discard)

    async def stop(self) -> None:
        """Returns when the round under way is over: nothing is claimed after it."""
        self._stopped = True
        self._handed.stop()
        if self._claiming is not None:
            await asyncio.wait([self._claiming], timeout=1)

    async def _claim(self) -> None:
        try:
            while not self._stopped:
                places = {name: count for name, count in self._lines.admitted.items() if count}
                if not places:
                    break
                await self._take(places)
        finally:
            self._claiming = None

    async def _take(self, places: dict[str, int]) -> None:
        """Fills places in engines; those that nobody came for are given back."""
        claimed: list[Claimed] = []
        try:
            claimed = await queue.claim(self._link, self._worker, places)
        except (Lost, hiredis.HiredisError) as error:
            logger.warning("cannot claim", error=str(error))
        for job in claimed:
            model = self._lines.models.get(job.queue)
            if model is None:
                self._begin(job, Grant(job.task.model, NO_RUN), gone(job.task.model))
            else:
                self._begin(job, self._loop.grant(model), None)
        for name, count in places.items():
            self._lines.fill(name, count)
            left = count - sum(job.queue == name for job in claimed)
            if left and (model := self._lines.models.get(name)) is not None:
                self._loop.give_back(model, left)

    async def _turn_away(self, model: str, error: HubError, *, elsewhere: bool) -> None:
        if elsewhere and await self._pass_on(model):
            return
        self._loop.turn_away(model, error)
        await self._refuse(model, error)

    async def _pass_on(self, model: str) -> bool:
        """False: no other worker may have the model."""
        name = keys.queue(model)
        try:
            sibling = await self._siblings.able(model)
            if sibling is None:
                return False
            waiting = (await line.waiting(self._link, [name]))[name].waiting
        except (Lost, hiredis.HiredisError) as lost:
            logger.warning("cannot pass on", model=model, error=str(lost))
            return False
        logger.info("passed on", model=model, worker=sibling.worker, why=sibling.why, jobs=waiting)
        self._lines.forget(model)
        self._loop.turn_away(model, PassedOn(sibling.worker))
        if waiting:
            wake.call(self._link, sibling.worker, name, waiting)
        return True

    async def _refuse(self, model: str, error: HubError) -> None:
        name = keys.queue(model)
        try:
            while claimed := await queue.claim(self._link, self._worker, {name: REFUSED_AT_ONCE}):
                for job in claimed:
                    self._begin(job, Grant(model, NO_RUN), error)
        except (Lost, hiredis.HiredisError) as lost:
            logger.warning("cannot refuse", model=model, error=str(lost))
