"""The ledger of what was used: written once, by one writer, a month a partition."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date
from typing import NamedTuple

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from shared.db import CONNECT_TIMEOUT, Connection, queries
from shared.wire.usage import UsageEvent

SQL = queries("usage")
LOCK = 0x6169_6875_6220_7573
"""The advisory lock's number: any that nobody else uses."""
IDLE_SECONDS = 20
"""A writer that stands still this long loses its connection, and with it the lock."""
AHEAD = 2
"""Months that are made before they come."""


class Month(NamedTuple):
    """A partition; `first` is its first day."""

    first: date
    bytes: int


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Connection]:
    """A connection that a writer may lock; see `try_lock`."""
    connection: Connection = await AsyncConnection.connect(
        url,
        autocommit=True,
        row_factory=dict_row,
        connect_timeout=CONNECT_TIMEOUT,
        application_name=f"aihub ledger {os.getpid()}",
    )
    async with connection:
        await connection.execute(SQL["bound_session"], {"idle": f"{IDLE_SECONDS}s"})
        yield connection


async def try_lock(connection: Connection) -> bool:
    """Whether this connection is now the writer's; it is until it closes."""
    cursor = await connection.execute(SQL["try_lock"], {"key": LOCK})
    row = await cursor.fetchone()
    return row is not None and bool(row["locked"])


async def touch(connection: Connection) -> None:
    """Says that the writer lives."""
    await connection.execute(SQL["still_here"])


async def write(connection: Connection, events: Sequence[UsageEvent]) -> int:
    """Writes those that are not written yet, with their sums, in one transaction; their number.

    Raises psycopg.DataError or IntegrityError for one that the tables do not take.
    """
    # PostgreSQL takes them apart: rows made in Python would hold up the gateway's event loop.
    rows = msgspec.json.encode(events).decode()
    async with connection.transaction():
        cursor = await connection.execute(SQL["write_batch"], {"events": rows})
        row = await cursor.fetchone()
    return 0 if row is None else int(row["written"])


async def make_months(connection: Connection, today: date) -> list[date]:
    """Makes this month, those ahead and those that rows lie astray of; the new ones."""
    cursor = await connection.execute(SQL["strayed_months"])
    strayed = {row["month"] for row in await cursor.fetchall()}
    coming = [later(today, months) for months in range(AHEAD + 1)]
    wanted = {month for month in strayed if month <= coming[-1]} | set(coming)
    made = []
    for month in sorted(wanted):
        cursor = await connection.execute(SQL["make_month"], {"month": month})
        row = await cursor.fetchone()
        if row is not None and row["made"]:
            made.append(month)
    return made


async def months(connection: Connection) -> list[Month]:
    """The months there are, the oldest first."""
    cursor = await connection.execute(SQL["months"])
    return [Month(row["month"], row["bytes"]) for row in await cursor.fetchall()]


async def drop_month(connection: Connection, month: date) -> int | None:
    """Forgets the single requests of a month; the bytes that frees, None: it is not there."""
    cursor = await connection.execute(SQL["drop_month"], {"month": month})
    row = await cursor.fetchone()
    return None if row is None else row["freed"]


def later(day: date, months: int) -> date:
    """The first day of the month so many after that of `day`."""
    index = day.year * 12 + day.month - 1 + months
    return date(index // 12, index % 12 + 1, 1)
