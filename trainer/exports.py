"""Tuned models made files of their projects, one after the other, beside whatever is trained.

PostgreSQL owns an export as it owns a job: it is claimed for a while, by a number that grows. One
that a trainer began and did not end is begun anew; what it left is removed first.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Awaitable, Callable
from typing import TypeVar

from shared import log
from shared.db import Connection, Pool, transaction
from shared.errors import HubError, Unavailable
from shared.files.files import Files
from shared.settings import Settings
from shared.store import export as store
from shared.wire.export import ExportClaim, ExportSource
from shared.wire.openai.fine_tuning import JobError
from trainer.book import AWAY, UNREACHED, LostError, persist
from trainer.export import Product, RefusedError, produce

FOLDER = "exports"
"""Beneath the home; what is in there belongs to the export that runs."""
LOOK = 2.0
"""Seconds between two looks for exports that nobody called for."""
RENEW_SECONDS = 4.0
REST = 10.0
"""Seconds after an attempt that failed for a reason that passes."""
MOST_STARTS = 5
LET_GO_WITHIN = 2.0

T = TypeVar("T")
logger = log.get("exports")


class Exports:
    """`name` is the trainer's own."""

    def __init__(self, settings: Settings, pool: Pool, files: Files, name: str) -> None:
        self._home = settings.folder
        self._pool = pool
        self._files = files
        self._name = name
        self._called = asyncio.Event()

    def call(self) -> None:
        """There may be one, or one is not wanted any more."""
        self._called.set()

    async def main(self) -> None:
        """Until it is cancelled. No other trainer may run in this home."""
        await persist(self._pool, lambda c: store.release_all(c, self._name))
        await asyncio.to_thread(shutil.rmtree, self._home / FOLDER, ignore_errors=True)
        while True:
            self._called.clear()
            try:
                claim = await persist(self._pool, lambda c: store.claim(c, self._name))
                if claim is not None:
                    await self._work(claim)
                    continue
            except Exception as error:
                logger.error("exports are not looked for", exc_info=error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._called.wait()

    async def _work(self, claim: ExportClaim) -> None:
        logger.info("export", id=claim.id, model=claim.model, format=claim.format)
        working = asyncio.create_task(self._export(claim))
        renewing = asyncio.create_task(self._keep_claim(claim))
        try:
            done, _ = await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except LostError as lost:
            logger.warning("given up", id=claim.id, why=str(lost))
        except RefusedError as refused:
            await self._fail(claim, refused.told)
        except (Unavailable, *UNREACHED) as error:
            logger.warning("an export begins anew", id=claim.id, error=str(error))
            await self._try(lambda c: store.release(c, claim, unused=False))
            await asyncio.sleep(REST)
        except HubError as error:
            await self._fail(claim, JobError(error.code or "server_error", error.message))
        except Exception as error:
            logger.error("an export broke", id=claim.id, exc_info=error)
            words = f"The export broke: {type(error).__name__}."
            await self._fail(claim, JobError("server_error", words))
        finally:
            ending = not working.done()
            for task in (working, renewing):
                task.cancel()
            await asyncio.gather(working, renewing, return_exceptions=True)
            if ending:
                await self._try(lambda c: store.release(c, claim, unused=True))

    async def _export(self, claim: ExportClaim) -> None:
        """Raises RefusedError, HubError, LostError, psycopg's errors and OSError."""
        if claim.starts > MOST_STARTS:
            text = f"It was begun {MOST_STARTS} times and never came to its end."
            raise RefusedError("server_error", text)
        scratch = self._home / FOLDER / claim.id
        try:
            made = await produce(
                self._home,
                scratch,
                claim,
                await self._source(claim),
                lambda size: self._files.fits(claim.project, size),
            )
            await self._keep(claim, made)
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    async def _source(self, claim: ExportClaim) -> ExportSource:
        found = await self._read(lambda c: store.source(c, claim.model, claim.project))
        if found is None:
            raise RefusedError("model_not_found", f"The model {claim.model!r} was deleted.")
        return found

    async def _keep(self, claim: ExportClaim, made: Product) -> None:
        """The file and the end of the export are one transaction."""
        async with self._files.arriving(claim.project, made.size, limit=made.size) as arrived:
            async for data in made.pieces:
                await arrived.write(data)
            await arrived.land()
            async with transaction(self._pool) as connection:
                file = await self._files.keep(
                    connection, arrived, claim.project, made.filename, "fine-tune-results"
                )
                if not await store.succeed(connection, claim, file.id, file.bytes):
                    raise LostError("it was deleted, or is another trainer's")
        logger.info("exported", id=claim.id, file=file.id, bytes=file.bytes)

    async def _keep_claim(self, claim: ExportClaim) -> None:
        """Raises LostError; whoever deletes it calls, so that it ends soon."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RENEW_SECONDS):
                    await self._called.wait()
            self._called.clear()
            with contextlib.suppress(*AWAY):
                if not await self._read(lambda c: store.renew(c, claim)):
                    raise LostError("it was deleted, or is another trainer's")

    async def _fail(self, claim: ExportClaim, error: JobError) -> None:
        logger.warning("not exported", id=claim.id, code=error.code, why=error.message)
        await persist(self._pool, lambda c: store.fail(c, claim, error))

    async def _read(self, act: Callable[[Connection], Awaitable[T]]) -> T:
        async with transaction(self._pool) as connection:
            return await act(connection)

    async def _try(self, act: Callable[[Connection], Awaitable[None]]) -> None:
        """Once: without it the claim ends by itself."""
        with contextlib.suppress(*AWAY):
            async with asyncio.timeout(LET_GO_WITHIN):
                await self._read(act)
