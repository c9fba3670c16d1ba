"""POST /api/v1/models/load, /unload, /pin and /unpin, GET /api/v1/models/status."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

import msgspec
from litestar.handlers import ASGIRouteHandler

from gateway.dispatch import Dispatch
from gateway.exchange import JSON, Exchange, Presence
from gateway.front import Front, Handle
from gateway.orders import Obeyed, adapter_state, ready
from gateway.routes.admin.desk import Call, Desk, Done
from gateway.routes.admin.query import Query
from gateway.status import model_status, status
from shared.catalog import Catalog, Entry
from shared.clock import Clock, SystemClock
from shared.errors import UnsupportedValue
from shared.settings import Settings
from shared.store import audit
from shared.wire.event import What
from shared.wire.node import ModelReport, WorkerState
from shared.wire.openai import error
from shared.wire.status import (
    ModelStatus,
    ModelStatuses,
    Standing,
    Wait,
    decode_change,
    decode_load,
    decode_unload,
)

LARGEST = 64 * 1024
"""Bytes of a body."""
GRACE = 30.0
"""Seconds beyond its wait after which a client that does not read is left."""

T = TypeVar("T")
encode = msgspec.json.Encoder().encode


class ResidencyRoutes:
    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        dispatch: Dispatch,
        desk: Desk,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._orders = dispatch.orders
        self._desk = desk
        self._clock = clock or SystemClock()

    def routes(self, front: Front) -> list[ASGIRouteHandler]:
        def change(name: str, handle: Handle) -> ASGIRouteHandler:
            path = f"/api/v1/models/{name}"
            return front.route(f"models.{name}", [path], ("POST",), handle, needs="admin")

        return [
            change("load", self.load),
            change("unload", self.unload),
            change("pin", self.pin),
            change("unpin", self.unpin),
            front.route(
                "models.status",
                ["/api/v1/models/status"],
                ("GET",),
                self.status,
                needs="admin.read",
            ),
        ]

    async def load(self, exchange: Exchange) -> None:
        """200 with the model's status when it is ready, 202 while it is not."""
        asked = error.decode(decode_load, await exchange.read(LARGEST))
        entry = self._find(exchange, asked.model)
        (obeyed,) = await self._noted(
            exchange, "load", entry, self._orders.load(entry, asked.worker, pin=asked.pin)
        )
        if within := self._within(asked.wait):
            waiting = self._orders.loaded(entry, obeyed, within)
            obeyed = await present(exchange, waiting, within)
        body = encode(told(entry, obeyed))
        await exchange.respond(200 if ready(entry, obeyed.report) else 202, body, JSON)

    async def unload(self, exchange: Exchange) -> None:
        """200 with the model's status on each worker when it is gone, 202 while it is not."""
        asked = error.decode(decode_unload, await exchange.read(LARGEST))
        entry = self._base(exchange, asked.model, "unload")
        obeyed = await self._order(exchange, "unload", entry, asked.worker)
        if within := self._within(asked.wait):
            each = (self._orders.unloaded(entry, one, within) for one in obeyed)
            obeyed = await present(exchange, asyncio.gather(*each), within)
        going = any(one.report.state in ("loading", "draining") for one in obeyed)
        await self._list(exchange, 202 if going else 200, entry, obeyed)

    async def pin(self, exchange: Exchange) -> None:
        await self._change(exchange, "pin")

    async def unpin(self, exchange: Exchange) -> None:
        await self._change(exchange, "unpin")

    async def status(self, exchange: Exchange) -> None:
        name = Query(exchange.query, ("model",)).one("model")
        only = None if name is None else self._find(exchange, name).base
        models = [entry.name for entry in self._catalog if only in (None, entry.name)]
        workers = await self._orders.workers()
        lines = await self._orders.lines(models)
        found = status(workers, lines, self._catalog, self._clock.wall_ms(), only)
        await exchange.respond(200, encode(found), JSON)

    async def _change(self, exchange: Exchange, what: What) -> None:
        asked = error.decode(decode_change, await exchange.read(LARGEST))
        entry = self._base(exchange, asked.model, what)
        await self._list(
            exchange, 200, entry, await self._order(exchange, what, entry, asked.worker)
        )

    async def _order(
        self, exchange: Exchange, what: What, entry: Entry, worker: str | None
    ) -> list[Obeyed]:
        return await self._noted(exchange, what, entry, self._orders.change(what, entry, worker))

    async def _noted(
        self, exchange: Exchange, what: What, entry: Entry, order: Coroutine[Any, Any, list[Obeyed]]
    ) -> list[Obeyed]:
        """Sends the order in a transaction with a row of the audit log for each worker that it
        changed something on.
        """
        obeyed: list[Obeyed] = []

        async def write(call: Call) -> Done:
            obeyed.extend(await order)
            changes = (noted(what, entry, one) for one in obeyed)
            return Done(None, [one for one in changes if one.before != one.after], announced=False)

        try:
            await self._desk.change(exchange, b"", write, needs="admin")
        finally:
            order.close()
        return obeyed

    async def _list(
        self, exchange: Exchange, code: int, entry: Entry, obeyed: list[Obeyed]
    ) -> None:
        data = [told(entry, one) for one in obeyed]
        await exchange.respond(code, encode(ModelStatuses(data=data)), JSON)

    def _find(self, exchange: Exchange, name: str) -> Entry:
        entry = self._catalog.find(name)
        exchange.model = entry.name
        return entry

    def _base(self, exchange: Exchange, name: str, what: What) -> Entry:
        entry = self._find(exchange, name)
        if entry.adapter is not None:
            raise UnsupportedValue(
                f"{name!r} is an adapter, which comes and goes by use; {what} its base"
                f" {entry.base!r} instead.",
                param="model",
            )
        return entry

    def _within(self, wait: Wait) -> float:
        """Seconds to wait; 0: not at all."""
        return self._settings.request_timeout if wait is True else float(wait)


def noted(what: What, entry: Entry, obeyed: Obeyed) -> audit.Change:
    """What an order did on one worker."""
    before = standing(entry, obeyed.worker, obeyed.before)
    after = standing(entry, obeyed.worker, obeyed.report)
    return audit.Change(f"model.{what}", entry.name, before, after)


def standing(entry: Entry, worker: WorkerState, report: ModelReport) -> Standing:
    return Standing(
        worker=worker.name,
        device=worker.device.name,
        state=report.state,
        asked=report.asked,
        pinned=report.pinned,
        adapter=adapter_state(entry, report),
    )


def told(entry: Entry, obeyed: Obeyed) -> ModelStatus:
    return model_status(obeyed.worker, entry.base, obeyed.report, obeyed.at_ms)


async def present(exchange: Exchange, waiting: Awaitable[T], within: float) -> T:
    """Waits as long as the client does."""
    with Presence(exchange, within + GRACE):
        return await waiting
