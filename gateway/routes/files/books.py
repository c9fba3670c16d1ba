"""What every route of files does: ids out of the path, changes with their audit row."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from gateway.exchange import Exchange
from gateway.routes.admin.desk import reachable
from shared.db import Connection, Pool, transaction
from shared.errors import NotFound
from shared.files.files import unknown
from shared.store import audit
from shared.store.audit import Change

SANE = re.compile(r"^[A-Za-z0-9_-]{1,100}$")
BASES = ("/v1", "/api/v1")

Act = Callable[[Connection], Awaitable[Change]]


def below(exchange: Exchange, noun: str) -> list[str]:
    """The segments of the path behind `/v1/<noun>`; raises NotFound for another path."""
    path = exchange.path.rstrip("/")
    for base in BASES:
        rest = path.removeprefix(f"{base}/{noun}")
        if rest != path and (not rest or rest.startswith("/")):
            return rest.split("/")[1:]
    raise exchange.unknown()


def sane(id_: str, what: str) -> str:
    """An id that there could be; raises NotFound."""
    if SANE.match(id_) is None:
        raise unknown(id_, what)
    return id_


def missing(id_: str, what: str) -> NotFound:
    return unknown(id_, what)


@asynccontextmanager
async def change(pool: Pool, exchange: Exchange) -> AsyncIterator[tuple[Connection, list[Change]]]:
    """A transaction; the changes listed in it are written to the audit log with it."""
    assert exchange.principal is not None
    actor = audit.Actor(exchange.account.key, exchange.principal.session, exchange.id)
    changes: list[Change] = []
    async with reachable(), transaction(pool) as connection:
        yield connection, changes
        for one in changes:
            await audit.insert(connection, actor, one)
