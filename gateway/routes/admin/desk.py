"""How an administrator's request runs: one transaction, an audit row for each change, the word out.

A change cannot forget its audit row: what it returns is the row.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import msgspec
import psycopg
import redis.asyncio as redis
from psycopg.errors import CheckViolation, ForeignKeyViolation, UniqueViolation
from psycopg_pool import PoolTimeout

from gateway.exchange import JSON, Exchange
from gateway.routes.admin.query import Query
from shared import keys, log
from shared.db import Connection, Pool, transaction
from shared.errors import (
    Conflict,
    InvalidApiKey,
    InvalidValue,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from shared.store import api_key, audit
from shared.wire.account import Account, Scope
from shared.wire.openai import error

LARGEST = 256 * 1024
"""Bytes of an administrator's request."""

HAS_BUDGET = "There is a budget for this period already."
TAKEN = {
    "project_name": ("name", "There is an active project of this name already."),
    "app_user_email": ("email", "There is a user with this address already."),
    "membership_pkey": ("user_id", "This user is a member of the project already."),
    "budget_key_id_period_key": ("period", HAS_BUDGET),
    "budget_project_id_period_key": (
        "period",
        HAS_BUDGET,
    ),
}
OWNERS = {
    "budget_key_id_fkey": "owner_id",
    "budget_project_id_fkey": "owner_id",
    "api_key_project_id_fkey": "project",
    "api_key_user_id_fkey": "user",
    "membership_project_id_fkey": "project",
    "membership_user_id_fkey": "user_id",
}

T = TypeVar("T")
encode = msgspec.json.Encoder().encode
logger = log.get("admin")


class Call:
    """One request at the desk, with the connection of its transaction."""

    def __init__(
        self, exchange: Exchange, account: Account, body: bytes, connection: Connection
    ) -> None:
        self._exchange = exchange
        self._body = body
        self.account = account
        """Whose key asks; for a change as it is in the database now."""
        self.connection = connection

    def at(self, name: str) -> str:
        """An id in the path."""
        return self._exchange.parameters[name]

    def has(self, name: str) -> bool:
        return name in self._exchange.parameters

    def body(self, decoder: msgspec.json.Decoder[T]) -> T:
        """What was sent; an empty body counts as an empty object. Raises InvalidRequest."""
        return error.decode(decoder, self._body or b"{}")

    @property
    def query_string(self) -> bytes:
        return self._exchange.query

    def query(self, *names: str) -> Query:
        """The query string, which may hold these names; raises UnsupportedParameter."""
        return Query(self._exchange.query, names)


class Done(NamedTuple):
    """The reply to a change, and what it did; nothing if all was so already.

    `announced`: gateways must look up again what they know of keys.
    """

    reply: object
    changes: Collection[audit.Change] = ()
    announced: bool = True


Read = Callable[[Call], Awaitable[object]]
Write = Callable[[Call], Awaitable[Done]]


class Desk:
    """`pool` and `announce` are known once the gateway runs."""

    def __init__(
        self, pool: Callable[[], Pool], announce: Callable[[str], Awaitable[None]]
    ) -> None:
        self._pool = pool
        self._announce = announce

    async def read(self, exchange: Exchange, read: Read) -> None:
        await exchange.respond(200, encode(await self.find(exchange, read)), JSON)

    async def find(self, exchange: Exchange, read: Callable[[Call], Awaitable[T]]) -> T:
        """What `read` finds in the database; raises Unavailable."""
        async with reachable(), self._pool().connection() as connection:
            return await read(Call(exchange, exchange.account, b"", connection))

    async def write(self, exchange: Exchange, write: Write) -> None:
        body = await exchange.read(LARGEST)
        reply = await self.change(exchange, body, write, needs="admin")
        await exchange.respond(200, encode(reply), JSON)

    async def change(
        self, exchange: Exchange, body: bytes, write: Write, needs: Scope | None = None
    ) -> object:
        """Runs a change and returns its reply; afterwards every gateway has been told.

        What a gateway remembers of a key may be seconds old; a change asks again.
        """
        assert exchange.principal is not None
        actor = audit.Actor(exchange.account.key, exchange.principal.session, exchange.id)
        async with reachable(), transaction(self._pool()) as connection:
            account = await current(connection, exchange.account, needs)
            done = await write(Call(exchange, account, body, connection))
            for change in done.changes:
                await audit.insert(connection, actor, change)
        for change in done.changes:
            logger.info("changed", action=change.action, target=change.target, by=actor.key)
        if done.changes and done.announced:
            await self._announce(next(iter(done.changes)).target)
        return done.reply


@asynccontextmanager
async def reachable() -> AsyncIterator[None]:
    """What the database says in the words of an error a caller can see."""
    try:
        yield
    except UniqueViolation as fault:
        param, words = TAKEN.get(fault.diag.constraint_name or "", (None, "There is one already."))
        raise Conflict(words, param=param) from fault
    except ForeignKeyViolation as fault:
        param = OWNERS.get(fault.diag.constraint_name or "")
        raise InvalidValue(f"Invalid value for {param!r}: no such id.", param=param) from fault
    except CheckViolation as fault:
        raise InvalidValue(f"Refused by the database: {fault.diag.constraint_name}.") from fault
    except psycopg.DataError as fault:
        logger.info("a value cannot be stored", error=str(fault))
        raise InvalidValue("A value holds characters that cannot be stored.") from fault
    except (psycopg.Error, PoolTimeout, OSError) as fault:
        logger.warning("the database does not answer", error=str(fault))
        raise Unavailable(
            "Nothing was read or changed: the database does not answer.", retry_after=2
        ) from fault


async def current(connection: Connection, account: Account, needs: Scope | None) -> Account:
    """The account as it is now; raises InvalidApiKey or PermissionDenied if it is too little."""
    key = await api_key.find_key(connection, account.key)
    if key is None or key.revoked_at is not None:
        raise InvalidApiKey("This key has been revoked.")
    if needs is not None and needs not in key.scopes:
        raise PermissionDenied(f"This key may not do that: it lacks the scope {needs!r}.")
    return msgspec.structs.replace(account, scopes=key.scopes, models=key.models)


def found(thing: T | None, what: str, id_: str) -> T:
    """Raises NotFound for None."""
    if thing is None:
        raise NotFound(f"No {what} has the id {id_!r}.", param="id")
    return thing


async def announce(client: redis.Redis, target: str) -> None:
    """Gateways that do not hear of it forget what they know within 10 s anyway."""
    try:
        await client.publish(keys.KEYS_CHANGED, target)
    except (redis.RedisError, OSError) as fault:
        logger.warning("a change was not announced", target=target, error=str(fault))


def settled(thing: T, **changes: Any) -> T:
    """A copy with those changes that are not UNSET."""
    given = {name: value for name, value in changes.items() if value is not msgspec.UNSET}
    return msgspec.structs.replace(thing, **given)  # type: ignore[type-var]
