"""What a trainer writes of a job: under its claim, and again and again while PostgreSQL is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import psycopg
from arq.connections import ArqRedis
from psycopg_pool import PoolTimeout, TooManyRequests

from shared import log, training
from shared.db import Connection, Pool, transaction
from shared.store import fine_tuning as store
from shared.store import training_run
from shared.training_run import Ran
from shared.wire.openai.fine_tuning import Fields, JobError, Status
from shared.wire.training import Claim, Job, Note

AGAIN = 0.5
"""Seconds between two attempts."""
UNREACHED = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, TooManyRequests)
AWAY = (*UNREACHED, OSError)

T = TypeVar("T")
logger = log.get("book")


class LostError(Exception):
    """The claim is another trainer's by now: nothing more may be written."""


class Book:
    """Every method waits until PostgreSQL answers, and raises LostError where it says so."""

    def __init__(self, pool: Pool, link: ArqRedis, claim: Claim) -> None:
        self._pool = pool
        self.link = link
        self.claim = claim

    async def write(self, act: Callable[[Connection], Awaitable[T]]) -> T:
        """One transaction. It may have happened twice if its end was not heard of."""
        return await persist(self._pool, act)

    async def announce(self) -> None:
        await training.announce(self.link, self.claim.id.encode())

    async def job(self) -> Job:
        async def find(connection: Connection) -> Job | None:
            return await store.find(connection, self.claim.id)

        found = await self.write(find)
        if found is None:
            raise LostError("the job is gone")
        return found

    async def runs(self, device: str) -> list[Ran]:
        """Measured on this kind of device, the newest first."""
        return await self.write(lambda connection: training_run.select(connection, device))

    async def measured(self, ran: Ran) -> None:
        await self.write(lambda connection: training_run.record(connection, ran))

    async def renew(self) -> Status:
        """One attempt only; raises what AWAY lists."""
        async with self._pool.connection() as connection:
            return held(await store.renew(connection, self.claim))

    async def note(self, *notes: Note) -> None:
        async def insert(connection: Connection) -> bool:
            return await store.note(connection, self.claim.id, notes, self.claim.fence)

        if not await self.write(insert):
            raise LostError("another trainer has the job")
        await self.announce()

    async def planned(self, plan: Fields, note: Note) -> Status | None:
        """None: it was paused or cancelled meanwhile."""
        return await self._move(lambda c: store.planned(c, self.claim, plan), note)

    async def run(self) -> Status | None:
        return await self._move(lambda c: store.run(c, self.claim))

    async def wait(self, note: Note) -> Status | None:
        return await self._move(lambda c: store.wait(c, self.claim), note)

    async def waits(self, why: str) -> None:
        """Tells for what, unless that is what was told last."""
        note = Note(f"Waits for room on the device: {why}", data={"waiting": why})
        await self._move(lambda c: store.waits(c, self.claim, why), note)

    async def aside(self, why: str, *, had_its_turn: bool) -> None:
        await self.waits(why)
        await self._move(
            lambda c: store.aside(c, self.claim, why, had_its_turn=had_its_turn),
        )

    async def others(self) -> bool:
        """Whether another job could be tried now; False while PostgreSQL does not answer."""
        try:
            async with self._pool.connection() as connection:
                return await store.others(connection, self.claim)
        except AWAY:
            return False

    async def fail(self, error: JobError) -> Status | None:
        note = Note(f"The job failed: {error.message}", level="error", data={"code": error.code})
        return await self._move(lambda c: store.fail(c, self.claim, error), note)

    async def step(self, number: int, of: int, eta: float, note: Note) -> bool:
        """False: the step was known already."""
        moved = await self._move(lambda c: store.step(c, self.claim, number, of, eta), note)
        return moved is not None

    async def validated(self, step: int, note: Note) -> None:
        """Once a step, however often it is told."""

        async def insert(connection: Connection) -> bool:
            return await store.validated(connection, self.claim, step, note)

        if not await self.write(insert):
            raise LostError("another trainer has the job")
        await self.announce()

    async def release(self) -> None:
        async def release(connection: Connection) -> None:
            await store.release(connection, self.claim)

        await self.write(release)

    async def _move(
        self, act: Callable[[Connection], Awaitable[Status | None]], *notes: Note
    ) -> Status | None:
        async def move(connection: Connection) -> Status | None:
            moved = await act(connection)
            if moved is not None:
                await store.note(connection, self.claim.id, notes, self.claim.fence)
            return moved

        moved = await self.write(move)
        if moved is not None:
            await self.announce()
        return moved


async def persist(pool: Pool, act: Callable[[Connection], Awaitable[T]]) -> T:
    told = False
    while True:
        try:
            async with transaction(pool) as connection:
                return await act(connection)
        except AWAY as error:
            if not told:
                logger.warning("the database is away, it is asked again", error=str(error))
            told = True
            await asyncio.sleep(AGAIN)


def held(status: Status | None) -> Status:
    if status is None:
        raise LostError("another trainer has the job")
    return status
