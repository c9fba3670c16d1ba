"""Budgets: at most one for a key or a project and a period. What is left is counted in Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from shared.db import Connection, queries
from shared.store.window import ONE, Window, columns, locked, rows
from shared.wire.account import Budget
from shared.wire.admin import BudgetCreate, BudgetObject
from shared.wire.usage import UsageEvent

SQL = queries("budget")


class Spent(NamedTuple):
    tokens: int
    micros: int


async def insert(connection: Connection, id_: str, asked: BudgetCreate) -> None:
    """Raises psycopg.errors.UniqueViolation, or ForeignKeyViolation for an unknown owner."""
    values = {
        "id": id_,
        "key": asked.owner_id if asked.owner == "key" else None,
        "project": asked.owner_id if asked.owner == "project" else None,
        **columns(asked),
    }
    await connection.execute(SQL["insert_budget"], values)


async def update(connection: Connection, budget: BudgetObject) -> None:
    """Writes the two amounts."""
    await connection.execute(SQL["update_budget"], columns(budget))


async def delete(connection: Connection, id_: str) -> None:
    await connection.execute(SQL["delete_budget"], {"id": id_})


async def find(connection: Connection, id_: str, *, lock: bool = False) -> BudgetObject | None:
    if lock and not await locked(connection, SQL["lock_budget"], {"id": id_}):
        return None
    found = await select(connection, ONE, id_=id_)
    return found[0] if found else None


async def select(
    connection: Connection,
    window: Window,
    *,
    id_: str | None = None,
    key: str | None = None,
    project: str | None = None,
) -> list[BudgetObject]:
    values = {"id": id_, "key": key, "project": project, **window._asdict()}
    return await rows(connection, SQL["find_budgets"], values, BudgetObject)


async def spent(
    connection: Connection,
    budget: Budget,
    since_ms: int,
    until_ms: int | None,
    coming: Sequence[UsageEvent],
) -> Spent:
    """What the ledger has of a budget's owner in whole hours of time, and those of `coming` that it
    does not have yet."""
    values = {
        "key": budget.owner_id if budget.owner == "key" else None,
        "project": budget.owner_id if budget.owner == "project" else None,
        "since": since_ms,
        "until": until_ms,
        "times": [event.ts_ms for event in coming],
        "requests": [event.request_id for event in coming],
        "tokens": [event.tokens_in + event.tokens_out for event in coming],
        "micros": [event.micros for event in coming],
    }
    cursor = await connection.execute(SQL["spent"], values)
    row = await cursor.fetchone()
    assert row is not None
    return Spent(**row)
