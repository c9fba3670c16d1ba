"""Removes what has expired, what was deleted, and what arrived for nobody."""

from __future__ import annotations

import asyncio

import psycopg
from psycopg_pool import PoolTimeout

from shared import log
from shared.db import Pool, transaction
from shared.errors import HubError
from shared.files.blobs import Blobs
from shared.store import blob, file, upload

SECONDS = 5.0
"""Between two looks; a deletion is looked at right away."""
AT_ONCE = 20
"""Blobs in one transaction."""
EXPIRED_AT_ONCE = 1000

logger = log.get("files")


class Sweeper:
    """Any number may run: each takes what the others have not."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._wanted = asyncio.Event()
        self.removed = 0
        """Blobs, since the process began."""

    def wake(self) -> None:
        self._wanted.set()

    async def run(self, pool: Pool) -> None:
        """Until it is cancelled."""
        while True:
            self._wanted.clear()
            try:
                await self.sweep(pool)
            except (HubError, psycopg.Error, PoolTimeout, OSError) as error:
                logger.warning("files were not swept", error=str(error))
            try:
                async with asyncio.timeout(SECONDS):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def sweep(self, pool: Pool) -> None:
        while expired := await self._expire(pool):
            logger.info("files expired", files=len(expired))
        while await self._remove(pool):
            pass

    async def _expire(self, pool: Pool) -> list[str]:
        async with transaction(pool) as connection:
            await upload.expire(connection)
            return await file.delete_expired(connection, EXPIRED_AT_ONCE)

    async def _remove(self, pool: Pool) -> int:
        """The row goes after the bytes; should this process die between, the next one repeats."""
        async with transaction(pool) as connection:
            ids = await blob.loose(connection, AT_ONCE)
            for id_ in ids:
                await self._blobs.delete(id_)
            if ids:
                await blob.delete(connection, ids)
        self.removed += len(ids)
        if ids:
            logger.debug("blobs removed", blobs=len(ids))
        return len(ids)
