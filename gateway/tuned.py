"""Keeps the catalog of this gateway equal to what fine-tuning has published.

PostgreSQL knows the models and the aliases. They are read when somebody says that they changed,
every few seconds anyway, and when a request names one that this gateway has not heard of.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import psycopg
import redis.asyncio as redis
from psycopg_pool import PoolTimeout

from shared import log, training
from shared.catalog import Catalog
from shared.clock import Clock, SystemClock
from shared.db import Pool
from shared.settings import Settings
from shared.store import tuned_model

EVERY = 5.0
"""Seconds between two looks that nobody asked for."""
AGAIN = 0.25
"""Seconds between two looks for names that this gateway has not heard of."""

logger = log.get("tuned")


class Offer(NamedTuple):
    """A model or alias as it was put into the catalog."""

    target: str
    canary: str | None = None
    share: float = 0.0
    shared: frozenset[str] = frozenset()


class Tuned:
    """One per gateway process."""

    def __init__(
        self,
        settings: Settings,
        pool: Callable[[], Pool],
        catalog: Catalog,
        clock: Clock | None = None,
    ) -> None:
        self.client = training.client(settings.redis)
        self._home = settings.folder
        self._pool = pool
        self._catalog = catalog
        self._clock = clock or SystemClock()
        self._offered: dict[str, Offer] = {}
        self._refused: set[str] = set()
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()
        self._knowing = asyncio.Lock()
        self._followers: set[asyncio.Event] = set()

    async def run(self) -> None:
        """Until cancelled."""
        listening = asyncio.create_task(self._listen())
        try:
            while True:
                await self.look()
                await asyncio.sleep(EVERY)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def close(self) -> None:
        await self.client.aclose(close_connection_pool=True)

    @contextlib.contextmanager
    def following(self) -> Iterator[asyncio.Event]:
        """An event that is set when any job has moved."""
        moved = asyncio.Event()
        self._followers.add(moved)
        try:
            yield moved
        finally:
            self._followers.discard(moved)

    @property
    def followers(self) -> int:
        return len(self._followers)

    async def know(self, name: str) -> None:
        """Looks for a model that a request names and that this gateway does not have.

        Those who ask meanwhile share the look, and one follows the other by AGAIN at least.
        """
        arrived = self._clock.now()
        async with self._knowing:
            if name in self._catalog or self._looked_at > arrived:
                return
            await asyncio.sleep(max(0.0, self._looked_at + AGAIN - self._clock.now()))
            if name not in self._catalog:
                await self.look()

    async def refresh(self) -> None:
        """Makes the catalog what the database says; raises psycopg.Error or PoolTimeout.

        One after the other, so that what was read earlier is never put over what is newer.
        """
        async with self._looking:
            self._looked_at = self._clock.now()
            await self._read()

    async def _read(self) -> None:
        async with self._pool().connection() as connection:
            models = await tuned_model.select(connection)
            aliases = await tuned_model.aliases(connection)
        there = {model.name for model in models} | {alias.name for alias in aliases}
        for name in set(self._offered) - there:
            self._catalog.forget(name)
            del self._offered[name]
        adapt, point = self._catalog.adapt, self._catalog.point
        for model in models:
            path = str(self._home / model.path)
            shared = model.shared
            put = partial(adapt, model.base, model.name, path, owner=model.project, shared=shared)
            self._put(model.name, Offer(model.path, shared=shared), put)
        for one in aliases:
            offer = Offer(one.target, one.canary, one.share)
            put = partial(point, one.name, one.target, one.canary, one.share)
            self._put(one.name, offer, put)

    def _put(self, name: str, offer: Offer, put: Callable[[], object]) -> None:
        if self._offered.get(name) == offer:
            return
        try:
            put()
        except ValueError as error:
            if name not in self._refused and len(self._refused) < tuned_model.MOST:
                self._refused.add(name)
                logger.warning("not offered", model=name, why=str(error))
            return
        self._offered[name] = offer
        logger.info("offered", model=name, target=offer.target)

    async def look(self) -> None:
        """As `refresh`; what was known stands while the database is away."""
        try:
            await self.refresh()
        except (psycopg.Error, PoolTimeout, OSError) as error:
            logger.warning("tuned models cannot be looked up", error=str(error))

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(redis.RedisError, OSError):
                async for word in training.words(self.client):
                    for follower in self._followers:
                        follower.set()
                    if word in (training.MODELS, b""):
                        await self.look()
            await asyncio.sleep(training.RECONNECT_SECONDS)
