"""Takes usage events from the stream to the database: one writer at a time, each event once.

Every gateway has one that competes for a lock in the database. What it has written it removes from
the stream; killed in between, the next one finds the events again and the database knows them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime

import hiredis
import msgspec
import psycopg

from shared import keys, log
from shared.clock import Clock
from shared.db import Connection
from shared.resp import Link
from shared.store import usage
from shared.wire.usage import UsageEvent, decode

BATCH = 2_000
POLL = 0.25
"""Seconds between two looks at a stream that was shorter than a batch."""
TOUCH = 5.0
"""Seconds without an event after which the database hears that the writer lives."""
COMPETE = 1.0
HOUR = 3600.0

Entry = tuple[bytes, list[bytes]]
logger = log.get("writer")


class Writer:
    """`keep` months of single requests stay besides the running one; None: all."""

    def __init__(self, url: str, link: Link, keep: int | None, clock: Clock) -> None:
        self._url = url
        self._link = link
        self._keep = keep
        self._clock = clock
        self.writing = False
        """Whether this one is the writer now."""
        self.written = 0
        self.unwritable = 0
        """Events that are in the log only: the tables do not take them."""

    async def run(self) -> None:
        while True:
            try:
                async with usage.connect(self._url) as connection:
                    await self._compete(connection)
                    self.writing = True
                    logger.info("this gateway writes the ledger")
                    await self._write(connection)
            except (psycopg.Error, OSError, hiredis.HiredisError) as error:
                logger.warning("the ledger is not written", error=str(error))
                await asyncio.sleep(COMPETE)
            finally:
                self.writing = False

    async def _compete(self, connection: Connection) -> None:
        """Returns when this is the only writer."""
        while True:
            if await usage.try_lock(connection):
                return
            await asyncio.sleep(COMPETE)

    async def _write(self, connection: Connection) -> None:
        tidied = touched = float("-inf")
        while True:
            if self._clock.now() - tidied >= HOUR:
                tidied = self._clock.now()
                await self.tidy(connection)
            found = await self.batch(connection)
            if not found and self._clock.now() - touched >= TOUCH:
                await usage.touch(connection)
                touched = self._clock.now()
            if found < BATCH:
                await asyncio.sleep(POLL)

    async def batch(self, connection: Connection) -> int:
        """Writes the oldest events and removes them from the stream; their number."""
        entries: list[Entry] = await self._link.call("XRANGE", keys.USAGE, "-", "+", "COUNT", BATCH)
        if not entries:
            return 0
        await self._store(connection, self._read(entries))
        await self._link.call("XTRIM", keys.USAGE, "MINID", behind(entries[-1][0]))
        return len(entries)

    def _read(self, entries: Sequence[Entry]) -> list[UsageEvent]:
        events = []
        for id_, fields in entries:
            try:
                events.append(decode(fields[1]))
            except (msgspec.MsgspecError, IndexError) as error:
                self.unwritable += 1
                logger.error("not a usage event", id=id_.decode(), error=str(error), said=fields)
        return events

    async def _store(self, connection: Connection, events: list[UsageEvent]) -> None:
        """One that the tables do not take must not hold up the others."""
        try:
            self.written += await usage.write(connection, events)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            if len(events) == 1:
                self.unwritable += 1
                logger.error("a usage event cannot be written", error=str(error), said=events[0])
                return
            middle = len(events) // 2
            await self._store(connection, events[:middle])
            await self._store(connection, events[middle:])

    async def tidy(self, connection: Connection) -> None:
        """Makes the months to come and drops those that are over long enough.

        What cannot be done now is tried again in an hour: without its month a line is written to
        the default partition.
        """
        try:
            await self._tidy(connection)
        except psycopg.Error as error:
            if connection.closed:
                raise
            logger.error("months are not tidied", error=str(error))

    async def _tidy(self, connection: Connection) -> None:
        today = datetime.fromtimestamp(self._clock.wall_ms() / 1000, UTC).date()
        for month in await usage.make_months(connection, today):
            logger.info("month made", month=f"{month:%Y-%m}")
        if self._keep is None:
            return
        for month in outlived(await usage.months(connection), today, self._keep):
            freed = await usage.drop_month(connection, month)
            logger.info("month dropped", month=f"{month:%Y-%m}", bytes=freed)


def outlived(months: Sequence[usage.Month], today: date, keep: int) -> list[date]:
    """Those before the `keep` months that came before this one."""
    oldest = usage.later(today, -keep)
    return [month.first for month in months if month.first < oldest]


def behind(id_: bytes) -> str:
    """The next id of a stream."""
    ms, _, number = id_.decode().partition("-")
    return f"{ms}-{int(number) + 1}"
