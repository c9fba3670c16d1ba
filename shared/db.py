"""PostgreSQL connections and the named queries of shared/sql."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from types import MappingProxyType
from typing import LiteralString

from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

SMALLEST = 1
LARGEST = 4
CONNECT_TIMEOUT = 5
"""Seconds for one connection attempt."""
WAIT_TIMEOUT = 5.0
"""Seconds a caller waits for a free connection before psycopg_pool.PoolTimeout."""
WAITING = 256
"""Callers that may wait at once; the next gets psycopg_pool.TooManyRequests."""
STATEMENT_TIMEOUT = "10s"
IDLE = 300.0
"""Seconds an unused connection above the smallest number stays open."""

Connection = AsyncConnection[DictRow]
Pool = AsyncConnectionPool[Connection]

NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)$", re.MULTILINE)


@asynccontextmanager
async def connect(url: str, largest: int = LARGEST) -> AsyncIterator[Pool]:
    """A pool of connections that return rows as dicts; each statement commits by itself.

    Raises psycopg_pool.PoolTimeout when the server cannot be reached. A connection that broke
    while it was idle, by a restart of the server, is replaced before a caller gets it.
    """
    pool: Pool = AsyncConnectionPool(
        url,
        connection_class=Connection,
        kwargs={
            "autocommit": True,
            "row_factory": dict_row,
            "connect_timeout": CONNECT_TIMEOUT,
            "application_name": "aihub",
        },
        min_size=SMALLEST,
        max_size=largest,
        open=False,
        configure=limit,
        check=AsyncConnectionPool.check_connection,
        timeout=WAIT_TIMEOUT,
        max_waiting=WAITING,
        max_idle=IDLE,
    )
    await pool.open(wait=True, timeout=WAIT_TIMEOUT)
    try:
        yield pool
    finally:
        await pool.close()


async def limit(connection: Connection) -> None:
    """Bound what one statement may take on a new connection."""
    await connection.execute(
        "SELECT set_config('statement_timeout', %s, false)", (STATEMENT_TIMEOUT,)
    )


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """One connection inside one transaction: commits at the end, rolls back on an exception."""
    async with pool.connection() as connection, connection.transaction():
        yield connection


def queries(noun: str) -> Mapping[str, LiteralString]:
    """The queries of shared/sql/<noun>.sql by the name in the `-- name:` line above each.

    Raises ValueError for text outside a query, an empty query, and a name given twice.
    """
    text = files("shared").joinpath("sql", f"{noun}.sql").read_text(encoding="utf-8")
    return MappingProxyType(split(text))


def split(text: str) -> dict[str, LiteralString]:
    head, *parts = NAME.split(text)
    if head.strip():
        raise ValueError(f"text before the first query: {head.strip()[:40]!r}")
    found: dict[str, LiteralString] = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        query = body.strip().removesuffix(";")
        if not query:
            raise ValueError(f"query {name} is empty")
        if name in found:
            raise ValueError(f"query {name} is there twice")
        found[name] = query
    return found
