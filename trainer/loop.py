"""The one owner of this trainer's jobs: one at a time, claimed in PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from arq.connections import ArqRedis

from shared import log, training
from shared.db import Connection, Pool
from shared.errors import Unavailable
from shared.settings import Settings
from shared.store import fine_tuning, tuned_model
from shared.wire.openai.fine_tuning import JobError
from shared.wire.training import Claim
from trainer.book import AWAY, UNREACHED, Book, LostError, persist
from trainer.run import Run
from trainer.shelf import Shelf

LOOK = 2.0
"""Seconds between two looks for jobs that nobody called for."""
STOP_WITHIN = 2.0
"""Seconds for a child to write a checkpoint when the trainer ends."""
NODE = os.uname().nodename
REST = 5.0
"""Seconds after a run that broke unforeseen."""
MOST_BROKEN = 1024
"""Jobs whose breaks are counted."""
MOST_BREAKS = 3
"""Runs of one job in a row that break unforeseen; then it fails, and others have their turn."""

logger = log.get("trainer")


class Loop:
    """`begin` makes the run of a claimed job."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        link: ArqRedis,
        shelf: Shelf,
        begin: Callable[[Book], Run],
    ) -> None:
        self.name = name_of(settings)
        self._settings = settings
        self._pool = pool
        self._link = link
        self._shelf = shelf
        self._begin = begin
        self._run: Run | None = None
        self._broke: dict[str, int] = {}
        self._called = asyncio.Event()
        self._stop = asyncio.Event()

    def call(self) -> None:
        """There may be a job."""
        self._called.set()

    def moved(self, job: str) -> None:
        """Somebody moved a job."""
        if self._run is not None and self._run.id == job:
            self._run.look()
        else:
            self._called.set()

    def request_stop(self) -> None:
        self._stop.set()
        self._called.set()
        if self._run is not None:
            self._run.stop()

    async def main(self) -> None:
        """Until `request_stop`. No other trainer may run in this home."""
        await self._inherit()
        tidying = asyncio.create_task(self._tidying())
        try:
            await self._serve()
        finally:
            tidying.cancel()
            await asyncio.gather(tidying, return_exceptions=True)

    async def _serve(self) -> None:
        while not self._stop.is_set():
            self._called.clear()
            claim = await self._claim()
            if claim is not None:
                await self._tell_places()
                await self._work(claim)
                await self._tell_places()
                continue
            try:
                async with asyncio.timeout(LOOK):
                    await self._called.wait()
            except TimeoutError:
                continue

    async def _inherit(self) -> None:
        """What a predecessor had claimed is free."""

        async def release(connection: Connection) -> None:
            await fine_tuning.release_all(connection, self.name)

        await persist(self._pool, release)

    async def _claim(self) -> Claim | None:
        async def claim(connection: Connection) -> Claim | None:
            return await fine_tuning.claim(connection, self.name)

        return await persist(self._pool, claim)

    async def _tell_places(self) -> None:
        """Whoever waits hears that the queue has moved."""
        for job in await persist(self._pool, fine_tuning.tell_places):
            await training.announce(self._link, job.encode())

    async def _work(self, claim: Claim) -> None:
        logger.info("job", job=claim.id, fence=claim.fence)
        book = Book(self._pool, self._link, claim)
        self._run = self._begin(book)
        working = asyncio.create_task(self._run.main())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                self._run.stop()
                await asyncio.wait({working}, timeout=STOP_WITHIN)
            working.cancel()
            (outcome,) = await asyncio.gather(working, return_exceptions=True)
            if isinstance(outcome, Exception):
                logger.error("a run broke", job=claim.id, exc_info=outcome)
                await self._broken(book, outcome)
                await asyncio.sleep(REST)
            else:
                self._broke.pop(claim.id, None)
        finally:
            stopping.cancel()
            self._run = None

    async def _broken(self, book: Book, error: Exception) -> None:
        """Claimed again it would break again, before all others that wait."""
        if isinstance(error, (Unavailable, *UNREACHED)):
            return
        if len(self._broke) > MOST_BROKEN:
            self._broke.clear()
        times = self._broke[book.claim.id] = self._broke.get(book.claim.id, 0) + 1
        if times >= MOST_BREAKS:
            del self._broke[book.claim.id]
            with contextlib.suppress(LostError):
                await book.fail(JobError("server_error", f"The job broke: {type(error).__name__}."))

    async def _tidying(self) -> None:
        """Also while a job runs: what was deleted must not wait for its end."""
        while not self._stop.is_set():
            await self._tidy()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._stop.wait()

    async def _tidy(self) -> None:
        """Removes the folders of jobs that are over, and the files of models that were deleted."""
        running = self._run.id if self._run is not None else ""
        folders = {path.name: path for path in self._folders() if path.name != running}
        try:
            async with self._pool.connection() as connection:
                over = await fine_tuning.ended(connection, list(folders)) if folders else []
                for gone in await tuned_model.deleted(connection):
                    await asyncio.to_thread(self._shelf.remove, gone.path)
                    await tuned_model.removed(connection, gone.name)
                    logger.info("removed", model=gone.name)
                offered = {job: await tuned_model.paths(connection, job) for job in over}
            for job in over:
                await asyncio.to_thread(self._shelf.clear, job, folders[job], offered[job])
        except (*AWAY, ValueError) as error:
            logger.warning("not tidied", error=str(error))

    def _folders(self) -> list[Path]:
        root = self._settings.folder / "training"
        return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []


def name_of(settings: Settings) -> str:
    """The same after a restart, so that what a predecessor left is known to be its own."""
    return f"tr-{hashlib.sha256(str(settings.folder).encode()).hexdigest()[:8]}@{NODE}"
