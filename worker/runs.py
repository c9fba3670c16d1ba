"""The requests that a worker runs, by their jobs, and what befalls several of them at once."""

from __future__ import annotations

import asyncio

import hiredis

from shared import log, queue
from shared.resp import Link, Lost
from worker.request import Request

logger = log.get("runs")


class Runs(dict[str, Request]):
    """The lane puts them in and takes them out."""

    def __init__(self, link: Link, worker: str) -> None:
        super().__init__()
        self._link = link
        self._worker = worker
        self._restoring: set[asyncio.Task[None]] = set()

    async def renew(self) -> None:
        """Prolongs their leases. To be called every second."""
        if not self:
            return
        jobs = {id_: request.claimed.queue for id_, request in self.items()}
        words = {id_: request.last_words() for id_, request in self.items()}
        for id_ in await queue.renew(self._link, self._worker, jobs, words):
            request = self.get(id_)
            if request is not None:
                logger.warning("lease lost", job=id_)
                request.stop("lost")

    def restore(self) -> None:
        """Puts their jobs back: Redis may have forgotten them."""
        for request in list(self.values()):
            task = asyncio.create_task(self._restore(request))
            self._restoring.add(task)
            task.add_done_callback(self._restoring.discard)

    async def _restore(self, request: Request) -> None:
        try:
            ours = await queue.restore(self._link, self._worker, request.claimed)
        except (Lost, hiredis.HiredisError) as error:
            logger.warning("cannot restore", job=request.claimed.id, error=str(error))
            return
        if not ours:
            request.stop("lost")

    def cancel(self, gateway: str) -> None:
        """Ends those of a gateway that is gone."""
        for request in list(self.values()):
            if request.claimed.task.gateway == gateway:
                request.stop("cancelled")

    def set_flow(self, gateway: str, flows: bool) -> None:
        for request in self.values():
            if request.claimed.task.gateway == gateway:
                request.set_flow(flows)

    def release(self) -> None:
        """Hands all of them back to their queues."""
        for request in list(self.values()):
            request.stop("released")
