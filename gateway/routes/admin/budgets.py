"""Budgets of keys and projects, and what became of them."""

from __future__ import annotations

import msgspec

from gateway.routes.admin.desk import Call, Done, found, settled
from gateway.routes.admin.query import PAGE, of_window
from gateway.spending import Spending
from shared import ids, period
from shared.clock import Clock
from shared.db import Connection
from shared.errors import InvalidValue
from shared.store import api_key, budget, project
from shared.store.audit import Change
from shared.wire.account import Budget
from shared.wire.admin import (
    BudgetCreate,
    BudgetObject,
    BudgetStanding,
    BudgetUpdate,
    BudgetUse,
    Deleted,
)

CREATE = msgspec.json.Decoder(BudgetCreate)
UPDATE = msgspec.json.Decoder(BudgetUpdate)


class BudgetReading:
    """Budgets with what became of them."""

    def __init__(self, spending: Spending, clock: Clock) -> None:
        self._spending = spending
        self._clock = clock

    async def find(self, call: Call) -> BudgetStanding:
        id_ = call.at("budget")
        one = found(await budget.find(call.connection, id_), "budget", id_)
        return await self._standing(call.connection, one)

    async def select(self, call: Call) -> object:
        query = call.query(*PAGE, "key", "project")
        window = query.window()
        rows = await budget.select(
            call.connection, window, key=query.one("key"), project=query.one("project")
        )
        return of_window([await self._standing(call.connection, row) for row in rows], window)

    async def _standing(self, connection: Connection, row: BudgetObject) -> BudgetStanding:
        now_ms = self._clock.wall_ms()
        one = Budget(row.id, row.owner, row.owner_id, row.period, row.tokens, row.micros)
        counted = await self._spending.read(connection, one, now_ms)
        span = period.span(row.period, now_ms)
        use = BudgetUse(
            span.from_ms // 1000,
            None if span.until_ms is None else span.until_ms // 1000,
            *counted,
            left(row.tokens, counted.tokens + counted.tokens_held),
            left(row.micros, counted.micros + counted.micros_held),
        )
        return BudgetStanding(**msgspec.structs.asdict(row), use=use)


def left(limit: int | None, taken: int) -> int | None:
    return None if limit is None else max(0, limit - taken)


async def create(call: Call) -> Done:
    asked = call.body(CREATE)
    check(asked.tokens, asked.micros)
    belongs = await project_of(call.connection, asked.owner, asked.owner_id)
    if belongs is None:
        raise InvalidValue(f"No {asked.owner} has the id {asked.owner_id!r}.", param="owner_id")
    id_ = ids.new("budget_")
    await budget.insert(call.connection, id_, asked)
    made = await budget.find(call.connection, id_)
    return Done(made, [Change("budget.created", id_, after=made, project=belongs)])


async def update(call: Call) -> Done:
    asked = call.body(UPDATE)
    id_ = call.at("budget")
    before = found(await budget.find(call.connection, id_, lock=True), "budget", id_)
    after = settled(before, **msgspec.structs.asdict(asked))
    check(after.tokens, after.micros)
    if after == before:
        return Done(before)
    await budget.update(call.connection, after)
    belongs = await project_of(call.connection, after.owner, after.owner_id)
    return Done(after, [Change("budget.updated", id_, before, after, belongs)])


async def delete(call: Call) -> Done:
    id_ = call.at("budget")
    before = found(await budget.find(call.connection, id_, lock=True), "budget", id_)
    await budget.delete(call.connection, id_)
    belongs = await project_of(call.connection, before.owner, before.owner_id)
    return Done(
        Deleted(id_, "budget.deleted"), [Change("budget.deleted", id_, before, None, belongs)]
    )


async def project_of(connection: Connection, owner: str, owner_id: str) -> str | None:
    """None: there is no such owner."""
    if owner == "project":
        it = await project.find(connection, owner_id)
        return None if it is None else it.id
    key = await api_key.find_key(connection, owner_id)
    return None if key is None else key.project


def check(tokens: int | None, micros: int | None) -> None:
    if tokens is None and micros is None:
        raise InvalidValue("A budget limits 'tokens', 'micros' or both.", param="tokens")
