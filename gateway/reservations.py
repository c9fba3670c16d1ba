"""The way in, as far as limits and budgets go: what a request may use is held, or it is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import hiredis

from gateway import limits
from gateway.exchange import Header
from gateway.prices import Prices
from gateway.spending import Spending
from gateway.worst import BOUNDED, Worst
from shared import holds, log
from shared.catalog import Entry
from shared.clock import Clock
from shared.errors import HubError, QueueUnavailable, Unavailable
from shared.holds import Shortage, Standing
from shared.queue import Placed
from shared.resp import Link, Lost
from shared.wire.account import Account, Price
from shared.wire.hold import Hold, encode

TRIES = 5
"""Times that what was spent is found out for one request, if it is forgotten again meanwhile."""
NEVER = (b"x-should-retry", b"false")
"""OpenAI's clients ask once more otherwise."""

logger = log.get("reservations")

Terms = tuple[Price | None, bytes, int]
"""What a Task says of its price, its hold and its `most` tokens."""
FREE: Terms = (None, b"", 0)


class Reservation:
    """What one request holds, and how its caller's limits stand once that was asked for."""

    __slots__ = ("account", "hold", "hopeless", "price", "standings", "terms")

    def __init__(
        self, account: Account, price: Price | None, hold: Hold | None, most: int = 0
    ) -> None:
        self.account = account
        self.price = price
        self.hold = hold
        self.terms: Terms = (price, b"", 0) if hold is None else (price, encode(hold), most)
        self.standings: list[Standing] = []
        self.hopeless = False
        """It was refused and would be again."""

    def headers(self) -> list[Header]:
        told = limits.headers(self.standings)
        return [*told, NEVER] if self.hopeless else told


class Reservations:
    """`limit` is the seconds that a request may take."""

    def __init__(
        self, link: Link, prices: Prices, spending: Spending, limit: float, clock: Clock
    ) -> None:
        self._link = link
        self._prices = prices
        self._spending = spending
        self._limit = limit
        self._clock = clock

    async def make(self, account: Account, entry: Entry, worst: Worst, ts_ms: int) -> Reservation:
        """What a request may use that came at `ts_ms`; nothing is held yet. Raises Unavailable."""
        price = await self._prices.find(entry)
        hold = holds.of_account(
            account,
            ts_ms,
            self._clock.wall_ms() + int(self._limit * 1000),
            worst.tokens,
            worst.micros(price, self._limit),
        )
        most = 0 if entry.model.engine in BOUNDED else worst.completion
        return Reservation(account, price, hold, most)

    async def place(
        self, reservation: Reservation | None, put: Callable[[], Awaitable[Placed]]
    ) -> Placed:
        """Queues a request by `put`, which is asked again when a budget had to be looked up.

        Raises RateLimited, BudgetExhausted, Unavailable or QueueUnavailable, and what `put` raises.
        """
        placed = await put()
        if reservation is None or reservation.hold is None:
            return placed
        account, hold = reservation.account, reservation.hold
        for _ in range(TRIES):
            if placed.obstacle is None:
                if placed.state == "queued":
                    reservation.standings = holds.standings_with(account, placed.standing)
                if placed.late:
                    self._spending.look_again(account.budgets, hold.ts_ms)
                return placed
            reservation.standings = holds.standings(account, placed.standing)
            if placed.state == "limited":
                found = holds.obstacle(reservation.standings, placed.obstacle)
                reservation.hopeless = found.frees_ms is None
                raise limits.rate_limited(found, hold.tokens)
            short = holds.shortage(account, hold.ts_ms, placed.obstacle)
            if short is not None:
                raise self._exhausted(reservation, hold, short)
            await self._look_up(account, hold)
            placed = await put()
        raise Unavailable("What is left of a budget cannot be found out now.", retry_after=2)

    async def admit(self, account: Account, told: list[Header]) -> None:
        """Counts a request that needs no engine against the requests a minute of its caller.

        It takes no tokens and no money. Adds the headers of its reply to `told`.
        Raises RateLimited, or QueueUnavailable without Redis.
        """
        if not any(one.limits != holds.UNLIMITED for one in holds.owners(account)):
            return
        try:
            standings, obstacle = await holds.admit(self._link, account)
        except (Lost, hiredis.HiredisError) as error:
            raise away(error) from error
        told += limits.headers(standings)
        if obstacle is not None:
            raise limits.rate_limited(obstacle, 0)

    async def sweep(self) -> None:
        """Now and then frees what jobs held that are gone; until cancelled."""
        while True:
            await asyncio.sleep(holds.SWEEP_SECONDS)
            try:
                released = await holds.sweep(self._link)
            except (Lost, hiredis.HiredisError) as error:
                logger.warning("cannot sweep", error=str(error))
            else:
                if released:
                    logger.info("holds of jobs that are gone were released", count=released)

    def _exhausted(self, reservation: Reservation, hold: Hold, short: Shortage) -> HubError:
        # Made here and not where it is raised: a frame that has its own error in a name is a cycle,
        # and keeps the request's body until the collector comes.
        need = hold.tokens if short.what == "tokens" else hold.micros
        error = limits.exhausted(short, need, self._clock.wall_ms())
        reservation.hopeless = error.retry_after != limits.SOON
        return error

    async def _look_up(self, account: Account, hold: Hold) -> None:
        try:
            for budget in account.budgets:
                await self._spending.find_out(budget, hold.ts_ms)
        except (Lost, hiredis.HiredisError) as error:
            raise away(error) from error


def away(error: Exception) -> QueueUnavailable:
    return QueueUnavailable(f"Limits and budgets cannot be checked: {error}", retry_after=2)
