"""Every path of fine-tuning: OpenAI's, the same jobs in fewer words, and the aliases of models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from litestar.handlers import ASGIRouteHandler

from gateway.exchange import JSON, Exchange
from gateway.front import Front, Handle, not_allowed
from gateway.routes.admin.desk import (
    LARGEST,
    Call,
    Desk,
    Done,
    Read,
    Write,
    encode,
    found,
    reachable,
)
from gateway.routes.admin.query import Query
from gateway.routes.admin.table import match
from gateway.routes.fine_tuning.aliases import Aliases
from gateway.routes.fine_tuning.exports import Exports
from gateway.routes.fine_tuning.jobs import Jobs, number
from gateway.routes.fine_tuning.permissions import Permissions
from gateway.routes.fine_tuning.picture import curves, draw
from gateway.routes.fine_tuning.stream import EventStream
from gateway.tuned import Tuned
from shared import training
from shared.catalog import Catalog
from shared.db import Pool
from shared.errors import InvalidValue
from shared.settings import Settings
from shared.store import fine_tuning as store
from shared.store import metric, tuned_model
from shared.store.audit import Change
from shared.wire.admin import Deleted
from shared.wire.openai.fine_tuning import FineTuningJob

JOBS = ("/v1/fine_tuning/jobs", "/api/v1/fine_tuning/jobs")
BRIEF = "/api/v1/training/jobs"
ALIASES = "/api/v1/model_aliases"
EXPORTS = "/api/v1/fine_tuning/exports"
SVG = (b"content-type", b"image/svg+xml")

Then = Callable[[object], Awaitable[None]]


class Resource(NamedTuple):
    path: str
    get: Read | None = None
    post: Write | None = None
    put: Write | None = None
    delete: Write | None = None
    own: Handle | None = None
    """Answers GET in its own way."""


class FineTuningRoutes:
    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        desk: Desk,
        pool: Callable[[], Pool],
        tuned: Tuned,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._desk = desk
        self._pool = pool
        self._tuned = tuned
        self._stream = EventStream(pool, tuned)

    def routes(self, front: Front) -> list[ASGIRouteHandler]:
        aliases = Aliases(self._catalog)
        exports = Exports(self._settings)
        one = "/{alias*}"
        tables: list[tuple[str, Sequence[Resource], Then]] = [
            *((base, self._jobs(brief=False), self._job_moved) for base in JOBS),
            (BRIEF, self._jobs(brief=True), self._job_moved),
            (
                ALIASES,
                [
                    Resource("", aliases.list),
                    Resource(f"{one}/rollback", post=aliases.rollback),
                    Resource(f"{one}/promote", post=aliases.promote),
                    Resource(one, aliases.retrieve, put=aliases.put, delete=aliases.delete),
                ],
                self._models_changed,
            ),
            (
                EXPORTS,
                [
                    Resource("", exports.list, exports.create),
                    Resource("/{export}", exports.retrieve, delete=exports.delete),
                ],
                self._exports_changed,
            ),
        ]
        permissions = Permissions(self._desk, self._models_changed)
        return permissions.routes(front) + [
            front.route(
                "fine_tuning",
                [base],
                ("GET", "POST", "PUT", "DELETE"),
                self._serve(base, below, then),
                needs="training",
                is_mount=True,
            )
            for base, below, then in tables
        ]

    async def delete_model(self, exchange: Exchange, name: str) -> None:
        """DELETE /v1/models/ft:…"""

        async def delete(call: Call) -> Done:
            # First: whoever makes an alias of it holds it, and other projects' are not told of.
            there = await tuned_model.delete(call.connection, name, call.account.project)
            found(there or None, "model", name)
            pointing = await tuned_model.pointing_at(call.connection, name)
            if pointing:
                raise InvalidValue(
                    f"{name!r} is what the alias {pointing[0]!r} points at.", param="model"
                )
            gone = Change("model.deleted", name, project=call.account.project)
            return Done(Deleted(name, "model"), [gone], announced=False)

        reply = await self._desk.change(exchange, b"", delete, needs="training")
        await self._models_changed(reply)
        await exchange.respond(200, encode(reply), JSON)

    def _jobs(self, *, brief: bool) -> list[Resource]:
        jobs = Jobs(self._settings, self._catalog, brief=brief)
        one = "/{job}"
        return [
            Resource("", jobs.list, jobs.create),
            Resource(one, jobs.retrieve),
            Resource(f"{one}/cancel", post=jobs.cancel),
            Resource(f"{one}/pause", post=jobs.pause),
            Resource(f"{one}/resume", post=jobs.resume),
            Resource(f"{one}/events", jobs.events, own=self._events),
            Resource(f"{one}/checkpoints", jobs.checkpoints),
            Resource(f"{one}/loss.svg", own=self._picture),
        ]

    def _serve(self, base: str, below: Sequence[Resource], then: Then) -> Handle:
        async def serve(exchange: Exchange) -> None:
            path = exchange.path.removeprefix(base).rstrip("/")
            for resource in below:
                ids = match(resource.path, path)
                if ids is not None:
                    exchange.parameters = ids
                    await self._answer(exchange, resource, then)
                    return
            raise exchange.unknown()

        return serve

    async def _answer(self, exchange: Exchange, resource: Resource, then: Then) -> None:
        given = {"POST": resource.post, "PUT": resource.put, "DELETE": resource.delete}
        writes = {method: write for method, write in given.items() if write is not None}
        reading = exchange.method in ("GET", "HEAD")
        if (write := writes.get(exchange.method)) is not None:
            body = await exchange.read(LARGEST)
            reply = await self._desk.change(exchange, body, write, needs="training")
            await then(reply)
            await exchange.respond(200, encode(reply), JSON)
        elif reading and resource.own is not None:
            await resource.own(exchange)
        elif reading and resource.get is not None:
            await self._read(exchange, resource.get)
        else:
            can = resource.get is not None or resource.own is not None
            allowed = ", ".join([*(["GET"] if can else []), *writes])
            exchange.extra.append((b"allow", allowed.encode()))
            raise not_allowed(exchange.method, allowed)

    async def _read(self, exchange: Exchange, read: Read) -> None:
        """Whoever learns here that a model is there may ask for it at once."""
        async with reachable(), self._pool().connection() as connection:
            reply = await read(Call(exchange, exchange.account, b"", connection))
        if isinstance(reply, FineTuningJob) and reply.fine_tuned_model is not None:
            await self._tuned.know(reply.fine_tuned_model)
        await exchange.respond(200, encode(reply), JSON)

    async def _events(self, exchange: Exchange) -> None:
        query = Query(exchange.query, ("limit", "after", "stream"))
        jobs = Jobs(self._settings, self._catalog)
        if not query.flag("stream"):
            await self._read(exchange, jobs.events)
            return
        after = number(query.one("after")) or 0
        await self._stream.serve(exchange, exchange.parameters["job"], after)

    async def _picture(self, exchange: Exchange) -> None:
        id_ = exchange.parameters["job"]
        async with reachable(), self._pool().connection() as connection:
            job = await store.find(connection, id_, exchange.account.project)
            row = found(job, "fine-tuning job", id_)
            points = await metric.curve(connection, id_)
        svg = draw(f"{row.id}: loss of {row.model}", curves(points))
        await exchange.respond(200, svg.encode(), SVG)

    async def _job_moved(self, reply: object) -> None:
        assert isinstance(reply, FineTuningJob)
        await training.announce(self._tuned.client, reply.id.encode())
        if reply.status in ("validating_files", "queued"):
            await training.call(self._tuned.client, reply.id)

    async def _exports_changed(self, _: object) -> None:
        await training.announce(self._tuned.client, training.EXPORTS)

    async def _models_changed(self, _: object) -> None:
        """This gateway at once, the others as soon as they hear of it."""
        async with reachable():
            await self._tuned.refresh()
        await training.announce(self._tuned.client, training.MODELS)
