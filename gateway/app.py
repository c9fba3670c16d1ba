"""The composition root of a gateway process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from functools import partial

import psycopg
from litestar import Litestar
from litestar.handlers import ASGIRouteHandler

from gateway.auth import Keyring, watch_changes
from gateway.cache.caches import Caches
from gateway.cache.memory import Memory
from gateway.cache.responses import Responses
from gateway.counts import Counts
from gateway.dispatch import Dispatch
from gateway.front import Front
from gateway.pipeline import Pipeline
from gateway.routes.admin import table
from gateway.routes.admin.budgets import BudgetReading
from gateway.routes.admin.desk import Desk, announce
from gateway.routes.admission import Admission
from gateway.routes.chat import ChatRoute
from gateway.routes.completions import CompletionRoute
from gateway.routes.embeddings import EmbeddingRoute
from gateway.routes.files.shelf import Shelf
from gateway.routes.fine_tuning.table import FineTuningRoutes
from gateway.routes.generation import Generation
from gateway.routes.health import HealthRoutes
from gateway.routes.models import ModelRoute
from gateway.routes.receipts import BASE as RECEIPTS
from gateway.routes.receipts import ReceiptRoute
from gateway.routes.residency import ResidencyRoutes
from gateway.routes.session import SessionRoute
from gateway.routes.usage import UsageRoute
from gateway.semantic.semantic import Semantic
from gateway.session import Sessions
from gateway.tuned import Tuned
from shared import db, log, settings
from shared.catalog import Catalog
from shared.clock import SystemClock
from shared.settings import Settings
from shared.store import api_key
from shared.wire.account import Account

BASES = ("/v1", "/api/v1")
GENERATING = (
    ("chat", "/chat/completions", ChatRoute),
    ("completions", "/completions", CompletionRoute),
    ("embeddings", "/embeddings", EmbeddingRoute),
)
DATABASE_SECONDS = 1.0
"""Between two looks at the database."""
DATABASE_WITHIN = 3.0
"""Seconds after which a database that does not answer is away."""

logger = log.get("gateway")


class Gateway:
    """Everything one process holds, and the order in which it starts and stops."""

    def __init__(self, chosen: Settings) -> None:
        self._settings = chosen
        self._catalog = Catalog(chosen.models)
        self._pool: db.Pool | None = None
        self._reachable = False
        self._draining: asyncio.Task[None] | None = None
        self.dispatch = Dispatch(chosen, self._catalog, pool=self._database)
        self.keyring = Keyring(self._find_key)
        self.sessions = Sessions(chosen.redis, self.keyring)
        self.responses = Responses(chosen, self.dispatch.name)
        self.semantic = Semantic(lambda: self._pool, self.dispatch, self._catalog, self.responses)
        self.counts = Counts(self.dispatch, self.responses)
        self.counts.others += [self.semantic.shadow.checks, self.semantic.shadow.turned_off]
        self.tuned = Tuned(chosen, self._database, self._catalog)
        self.pipeline = Pipeline(chosen, self.dispatch.record)
        self.shelf = Shelf(chosen, self._database)
        self.counts.others += (*self.pipeline.metrics(), *self.shelf.metrics())

    def app(self) -> Litestar:
        front = Front(self.keyring, self.sessions, self.counts, self.dispatch.record)
        return Litestar(
            self.routes(front),
            exception_handlers={Exception: front.refuse},
            lifespan=[self._live],
            openapi_config=None,
            logging_config=None,
        )

    def routes(self, front: Front) -> list[ASGIRouteHandler]:
        admission = Admission(self._catalog, self.dispatch.sightings.states, self.tuned.know)
        memory = Memory(self.responses, self.semantic, self.dispatch.sightings.files)
        generation = Generation(self._settings, admission, self.dispatch, self.counts, memory)
        health = HealthRoutes(self._missing, self.dispatch.sightings.failed, self.counts)
        caches = Caches(self.responses, self._catalog)
        reading = BudgetReading(self.dispatch.spending, SystemClock())
        desk = Desk(self._database, partial(announce, self.sessions.client))
        tuning = FineTuningRoutes(self._settings, self._catalog, desk, self._database, self.tuned)
        session = SessionRoute(front, self.keyring, self.sessions, desk)
        post, get = ("POST",), ("GET",)
        route = front.route
        return [
            *generating(front, generation),
            route(
                "models",
                under("/models"),
                (*get, "DELETE"),
                ModelRoute(self._catalog, self.dispatch.sightings.workers, tuning.delete_model),
                needs="training",
                reads="inference",
                is_mount=True,
            ),
            route("live", ["/health/live"], get, health.live, public=True, quiet=True),
            route("ready", ["/health/ready"], get, health.ready, public=True, quiet=True),
            route("metrics", ["/metrics"], get, health.metrics, needs="admin.read"),
            route("session", ["/api/v1/session"], (*get, *post, "DELETE"), session, public=True),
            route("usage", ["/api/v1/usage"], get, UsageRoute(desk), known=True),
            route(
                "receipts",
                [RECEIPTS],
                get,
                ReceiptRoute(desk, self.pipeline),
                known=True,
                is_mount=True,
            ),
            *ResidencyRoutes(self._settings, self._catalog, self.dispatch, desk).routes(front),
            *table.routes(front, desk, self._catalog, caches, reading),
            *self.shelf.routes(front),
            *tuning.routes(front),
        ]

    @contextlib.asynccontextmanager
    async def _live(self, _: Litestar) -> AsyncIterator[None]:
        """Starts what requests need, and drains before the server closes its sockets.

        Granian stops listening as soon as it gets a signal. So SIGTERM drains first, while new
        requests are still answered, with 503; then SIGINT, which Granian keeps, ends the process.
        A second SIGTERM ends the drain.
        """
        loop = asyncio.get_running_loop()
        async with db.connect(self._settings.postgres) as self._pool:
            await self.dispatch.start()
            await self.tuned.look()
            await self.responses.start()
            watches = [
                asyncio.create_task(
                    watch_changes(self._settings.redis, self.keyring, self.dispatch.prices)
                ),
                asyncio.create_task(self._watch_database(self._pool)),
                asyncio.create_task(self.tuned.run()),
                asyncio.create_task(self.semantic.age()),
                asyncio.create_task(self.pipeline.run()),
                asyncio.create_task(self.shelf.run()),
            ]
            loop.add_signal_handler(signal.SIGTERM, self._drain)
            logger.info("gateway is up", name=self.dispatch.name)
            try:
                yield
            finally:
                if self._draining is None:
                    await self._leave()
                for watch in watches:
                    watch.cancel()
                await asyncio.gather(*watches, return_exceptions=True)
                await self.responses.stop()
                await self.sessions.close()
                await self.tuned.close()
                await self.shelf.close()

    def _drain(self) -> None:
        if self._draining is not None:
            self.dispatch.hurry()
        else:
            logger.info("draining", replies=self.dispatch.open_replies)
            self._draining = asyncio.create_task(self._leave())
            self._draining.add_done_callback(lambda _: os.kill(os.getpid(), signal.SIGINT))

    async def _leave(self) -> None:
        """What nobody waits for is dropped; who waits gets his reply."""
        await self.semantic.stop()
        await self.dispatch.stop()

    async def _watch_database(self, pool: db.Pool) -> None:
        """The pool tests a connection before it lends it, which is all that is asked of it."""
        while True:
            try:
                async with asyncio.timeout(DATABASE_WITHIN), pool.connection():
                    self._reachable = True
            except (psycopg.Error, TimeoutError) as error:
                self._reachable = False
                logger.warning("database is away", error=str(error) or "no answer")
            await asyncio.sleep(DATABASE_SECONDS)

    def _missing(self) -> dict[str, str]:
        missing = self.dispatch.missing()
        if not self._reachable:
            missing["database"] = "no connection"
        return missing

    async def _find_key(self, digest: bytes) -> Account | None:
        return await api_key.find(self._database(), digest)

    def _database(self) -> db.Pool:
        if self._pool is None:
            raise psycopg.OperationalError("no connection yet")
        return self._pool


def generating(front: Front, generation: Generation) -> list[ASGIRouteHandler]:
    """The routes that ask a model."""
    return [
        front.route(
            name,
            under(path),
            ("POST",),
            handle(generation),
            needs="inference",
            metered=path.removeprefix("/"),
        )
        for name, path, handle in GENERATING
    ]


def under(path: str) -> list[str]:
    return [base + path for base in BASES]


def create_app() -> Litestar:
    """For the server: reads the settings, sets up logging, starts nothing."""
    chosen = settings.load()
    log.configure("gateway", chosen.log_level, chosen.log_format)
    return Gateway(chosen).app()
