"""What models cost, as this gateway knows it: at most 10 s old, and at once when told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from psycopg import Error as DatabaseError
from psycopg_pool import PoolTimeout

from shared import log
from shared.catalog import Entry
from shared.clock import Clock, SystemClock
from shared.errors import Unavailable
from shared.wire.account import Price

KNOWN_SECONDS = 10.0
LOOKUP_SECONDS = 2.0

logger = log.get("prices")

Load = Callable[[], Awaitable[Mapping[str, Price]]]


class Prices:
    """All of them, for there is one a model."""

    def __init__(self, load: Load, clock: Clock | None = None) -> None:
        self._load = load
        self._clock = clock or SystemClock()
        self._known: Mapping[str, Price] = {}
        self._until = float("-inf")
        self._changes = 0
        self._loading: asyncio.Task[None] | None = None

    async def find(self, entry: Entry) -> Price | None:
        """Of a model, or of an adapter, which costs what its base does unless it has its own price.

        None: free. Raises Unavailable.
        """
        while self._until < self._clock.now():
            await self._look_up()
        return self._known.get(entry.name) or self._known.get(entry.base)

    def forget(self) -> None:
        """Look them up again; what is being looked up now may be old already."""
        self._changes += 1
        self._loading = None
        self._until = float("-inf")

    async def _look_up(self) -> None:
        if self._loading is None:
            self._loading = asyncio.create_task(self._ask())
        loading = self._loading
        try:
            await asyncio.shield(loading)
        except (DatabaseError, PoolTimeout, TimeoutError, OSError) as error:
            logger.warning("prices cannot be looked up", error=str(error))
            raise Unavailable(
                "The price cannot be looked up right now: the database does not answer.",
                retry_after=2,
            ) from error
        finally:
            if loading.done() and self._loading is loading:
                self._loading = None

    async def _ask(self) -> None:
        changes = self._changes
        async with asyncio.timeout(LOOKUP_SECONDS):
            known = await self._load()
        if changes == self._changes:
            self._known, self._until = known, self._clock.now() + KNOWN_SECONDS
