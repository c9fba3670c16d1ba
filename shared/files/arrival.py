"""Bytes on their way in: room for them is booked, and their lease renewed, while they come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import psycopg
from psycopg_pool import PoolTimeout

from shared import log
from shared.db import Connection, Pool
from shared.errors import BodyTooLarge, HubError, StorageExhausted, Unavailable
from shared.files.blobs import Blobs, Draft
from shared.size import spell_size
from shared.store import blob
from shared.store.blob import Blob, Room, Wanted

STEP = 8 * 1024 * 1024
"""Bytes booked ahead, at most, for what comes without saying how much it is."""
RENEW_SECONDS = 4.0
MOST_BLOBS = 100_000
"""Files and parts one project may have."""
AWAY = (psycopg.Error, PoolTimeout, OSError)

logger = log.get("files")


class Bounds(NamedTuple):
    """Bytes: of all that a project may have, unless it has a quota of its own, and of one file."""

    quota: int
    file: int


class Arrival:
    """One blob that arrives; `arriving` makes it."""

    def __init__(self, pool: Pool, draft: Draft, wanted: Wanted, limit: int) -> None:
        self._pool = pool
        self._draft = draft
        self._wanted = wanted
        self._limit = limit
        self.size = 0
        self.landed = False
        self.kept = False
        self.lost = False

    @property
    def id(self) -> str:
        return self._wanted.id

    async def write(self, data: bytes) -> None:
        """Raises BodyTooLarge, StorageExhausted or Unavailable."""
        self.size += len(data)
        if self.size > self._limit:
            raise BodyTooLarge(f"The file is larger than {spell_size(self._limit)}.", param="file")
        if self.size > self._wanted.bytes:
            await self._grow()
        if self.lost:
            raise gone()
        await self._draft.write(data)

    async def land(self) -> None:
        await self._draft.land()
        self.landed = True

    async def keep(
        self, connection: Connection, *, file: str | None = None, upload: str | None = None
    ) -> None:
        """Gives what has landed to a file or an upload; raises Unavailable."""
        if not await blob.keep(connection, Blob(self.id, self.size), file=file, upload=upload):
            raise gone()
        self.kept = True

    async def _grow(self) -> None:
        """Books ahead while there is room, as each time takes a transaction."""
        ahead = min(self._limit, self.size + min(self.size, STEP))
        try:
            await self._book(ahead)
        except StorageExhausted:
            await self._book(self.size)

    async def _book(self, size: int) -> None:
        wanted = self._wanted._replace(bytes=size)
        await book(self._pool, wanted, fresh=False)
        self._wanted = wanted

    async def drop(self) -> None:
        if not self.landed:
            await self._draft.drop()


@contextlib.asynccontextmanager
async def arriving(
    pool: Pool, blobs: Blobs, wanted: Wanted, limit: int, swept: Callable[[], None]
) -> AsyncIterator[Arrival]:
    """What is not kept when this ends belongs to nobody, and `swept` is called.

    `wanted` is booked at once, at most `limit` bytes come. Raises StorageExhausted or Unavailable.
    """
    await book(pool, wanted, fresh=True)
    kept = False
    try:
        arrival = Arrival(pool, await blobs.draft(wanted.id), wanted, limit)
        renewal = asyncio.create_task(renew(pool, arrival))
        try:
            yield arrival
            kept = arrival.kept
        finally:
            renewal.cancel()
            await arrival.drop()
    finally:
        if not kept:
            await let_go(pool, blobs, wanted.id)
            swept()


async def let_go(pool: Pool, blobs: Blobs, id_: str) -> None:
    """Its bytes are the sweeper's: a commit that seemed to fail may have kept them. But what was
    written behind the sweeper's back, by a process that had slept, nobody else will look for."""
    try:
        if not await blob.release(pool, id_):
            await blobs.delete(id_)
    except (*AWAY, HubError) as error:
        logger.warning("a lease was left to end", blob=id_, error=str(error))


async def renew(pool: Pool, arrival: Arrival) -> None:
    while not arrival.lost:
        await asyncio.sleep(RENEW_SECONDS)
        try:
            arrival.lost = not await blob.renew(pool, arrival.id)
        except AWAY as error:
            logger.warning("a lease was not renewed", blob=arrival.id, error=str(error))


async def book(pool: Pool, wanted: Wanted, *, fresh: bool) -> None:
    try:
        room = await blob.reserve(pool, wanted, fresh=fresh)
    except LookupError:
        raise gone() from None
    if room is not None:
        raise exhausted(room, wanted.bytes)


def exhausted(room: Room, size: int) -> StorageExhausted:
    if room.blobs >= MOST_BLOBS:
        return StorageExhausted(
            f"The project has {room.blobs} files and parts of uploads, which is as many as it may."
            " Delete some first."
        )
    return StorageExhausted(
        f"The project may have {told(room.quota)} of files and has {told(room.bytes)};"
        f" this takes {told(size)}. Delete files first, or have the quota raised."
    )


def told(size: int) -> str:
    return f"{size} bytes" if size < 1 << 20 else spell_size(size)


def gone() -> Unavailable:
    return Unavailable("The file could not be kept: it took too long. Send it again.")
