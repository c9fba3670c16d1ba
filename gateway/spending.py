"""What was spent of a budget, where Redis does not know: from the ledger and the way there.

Nothing is taken for 0 that was not looked up. What is read is true as long as nothing of this
budget is settled meanwhile, which Redis tells; then it is read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import hiredis
import msgspec
from psycopg import Error as DatabaseError
from psycopg_pool import PoolTimeout

from gateway.exchange import UPLOAD_SECONDS
from shared import holds, keys, log, period
from shared.db import Connection, Pool
from shared.errors import Unavailable
from shared.holds import Counted
from shared.resp import Link, Lost
from shared.store import budget as store
from shared.wire.account import Budget
from shared.wire.usage import UsageEvent, decode

PAGE = 1_000
"""Events read from the stream at a time."""
TRIES = 100
"""Times it is read anew because something was settled in between."""

MARGIN = UPLOAD_SECONDS + 15.0
"""Seconds beyond what a request may take, from when its account was read until it is settled."""
EXACT = 10
"""Times that a budget is counted again in the hope that nothing is settled meanwhile."""
PAUSE = 5.0
"""Seconds after a second look that failed."""

AWAY = (DatabaseError, PoolTimeout, TimeoutError)

Asked = tuple[str, str]
"""A budget and one of its periods, by name."""

logger = log.get("spending")


class Spending:
    """`longest`: seconds that a request may take. Those that ran when a budget was made hold
    nothing of it, so that it is counted again when they must have ended."""

    def __init__(self, link: Link, pool: Callable[[], Pool], longest: float) -> None:
        self._again_ms = int((longest + MARGIN) * 1000)
        self._link = link
        self._pool = pool
        self._asked: dict[Asked, asyncio.Task[None]] = {}

    async def find_out(self, budget: Budget, ts_ms: int) -> None:
        """Makes Redis count a budget in the period of `ts_ms`; requests that ask share one look.

        Raises Unavailable, and Lost or HiredisError without Redis.
        """
        name = (budget.id, period.span(budget.period, ts_ms).name)
        asked = self._asked.get(name)
        if asked is None:
            asked = asyncio.create_task(self._find_out(budget, ts_ms))
            self._asked[name] = asked
            asked.add_done_callback(partial(self._over, name))
        try:
            await asyncio.shield(asked)
        except AWAY as error:
            logger.warning("a budget cannot be looked up", budget=budget.id, error=str(error))
            raise Unavailable(
                "What is left of a budget cannot be found out right now:"
                " the database does not answer.",
                retry_after=2,
            ) from error

    def look_again(self, budgets: Sequence[Budget], ts_ms: int) -> None:
        """The same in the background, of budgets that go on being counted meanwhile."""
        for budget in budgets:
            name = (budget.id, period.span(budget.period, ts_ms).name)
            if name not in self._asked:
                asked = self._asked[name] = asyncio.create_task(self._again(budget, ts_ms))
                asked.add_done_callback(partial(self._over, name))

    def _over(self, name: Asked, _: asyncio.Task[None]) -> None:
        del self._asked[name]

    async def _again(self, budget: Budget, ts_ms: int) -> None:
        try:
            await self._find_out(budget, ts_ms)
        except (*AWAY, Unavailable, Lost, hiredis.HiredisError) as error:
            logger.warning("a budget cannot be looked up again", budget=budget.id, error=str(error))
            await asyncio.sleep(PAUSE)

    async def _find_out(self, budget: Budget, ts_ms: int) -> None:
        span = period.span(budget.period, ts_ms)
        for tried in range(TRIES):
            opened = await holds.open_counter(self._link, budget, ts_ms)
            if opened.known:
                return
            async with self._pool().connection() as connection:
                spent = await self._spent(connection, budget, span)
            anyway = tried >= EXACT
            if await holds.fill_counter(
                self._link, budget, ts_ms, opened, *spent, self._again_ms, anyway=anyway
            ):
                logger.info("counted", budget=budget.id, period=span.name, **spent._asdict())
                return
        raise Unavailable("What is left of a budget cannot be found out now.", retry_after=1)

    async def read(self, connection: Connection, budget: Budget, ts_ms: int) -> Counted:
        """How a budget stands; what Redis does not know is looked up, for the reader alone.

        Raises Unavailable without Redis.
        """
        try:
            found = await holds.read_counter(self._link, budget, ts_ms)
            if found is not None:
                return found
            spent = await self._spent(connection, budget, period.span(budget.period, ts_ms))
        except (Lost, hiredis.HiredisError) as error:
            raise Unavailable(f"Budgets cannot be read: {error}", retry_after=2) from error
        return Counted(spent.tokens, spent.micros, 0, 0)

    async def _spent(
        self, connection: Connection, budget: Budget, span: period.Span
    ) -> store.Spent:
        coming = [event async for event in self._coming() if belongs(event, budget, span)]
        return await store.spent(connection, budget, span.from_ms, span.until_ms, coming)

    async def _coming(self) -> AsyncIterator[UsageEvent]:
        """The events that the ledger may not have yet.

        They are read before the ledger: one that it gets meanwhile is in both and told apart there.
        """
        start = "-"
        while True:
            entries = await self._link.call("XRANGE", keys.USAGE, start, "+", "COUNT", PAGE)
            for id_, fields in entries:
                try:
                    yield decode(fields[1])
                except (msgspec.MsgspecError, IndexError) as error:
                    logger.error("not a usage event", id=id_.decode(), error=str(error))
            if len(entries) < PAGE:
                return
            start = f"({entries[-1][0].decode()}"


def belongs(event: UsageEvent, budget: Budget, span: period.Span) -> bool:
    """Whether a request was charged to a budget in a period."""
    if (event.key if budget.owner == "key" else event.project) != budget.owner_id:
        return False
    return span.from_ms <= event.ts_ms and (span.until_ms is None or event.ts_ms < span.until_ms)
