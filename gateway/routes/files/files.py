"""POST and GET /v1/files, GET and DELETE /v1/files/{id}, GET /v1/files/{id}/content."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing

import msgspec
from litestar.handlers import ASGIRouteHandler

from gateway import form
from gateway.exchange import JSON, Exchange
from gateway.front import Front, not_allowed
from gateway.routes.admin.desk import reachable
from gateway.routes.admin.query import Query
from gateway.routes.files import content
from gateway.routes.files.asked import ASKED, FileAsked, check, named
from gateway.routes.files.books import BASES, below, change, sane
from shared.db import Pool
from shared.errors import InvalidValue, MissingParameter
from shared.files.arrival import Arrival
from shared.files.files import Files, unknown
from shared.metrics import Counter
from shared.store import file
from shared.store.audit import Change
from shared.store.window import Window
from shared.wire.openai.file import FileDeleted, FileList

LONGEST_PAGE = 10_000

encode = msgspec.json.Encoder().encode


class FileRoutes:
    def __init__(
        self, pool: Callable[[], Pool], files: Files, moved: Counter, swept: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._files = files
        self._moved = moved
        self._swept = swept

    def routes(self, front: Front) -> list[ASGIRouteHandler]:
        paths = [f"{base}/files" for base in BASES]
        methods = ("GET", "POST", "DELETE")
        return [front.route("files", paths, methods, self, needs="files", is_mount=True)]

    async def __call__(self, exchange: Exchange) -> None:
        method = "GET" if exchange.method == "HEAD" else exchange.method
        match method, below(exchange, "files"):
            case "GET", []:
                await self._list(exchange)
            case "POST", []:
                await self._create(exchange)
            case "GET", [id_]:
                await self._retrieve(exchange, sane(id_, "file"))
            case "DELETE", [id_]:
                await self._delete(exchange, sane(id_, "file"))
            case "GET", [id_, "content"]:
                await self._content(exchange, sane(id_, "file"))
            case _, ([] | [_] | [_, "content"]) as rest:
                allowed = ("GET, POST", "GET, DELETE", "GET")[len(rest)]
                exchange.extra.append((b"allow", allowed.encode()))
                raise not_allowed(exchange.method, allowed)
            case _:
                raise exchange.unknown()

    async def _create(self, exchange: Exchange) -> None:
        project = exchange.account.project
        async with AsyncExitStack() as stack:
            async with reachable():
                arrival, asked = await self._receive(exchange, stack, project)
                await arrival.land()
            async with change(self._pool(), exchange) as (connection, changes):
                made = await self._files.keep(
                    connection, arrival, project, asked.filename, asked.purpose, asked.seconds
                )
                changes.append(Change("file.created", made.id, after=made, project=project))
        self._moved.add(made.bytes, ("in",))
        await exchange.respond(200, encode(made), JSON)

    async def _receive(
        self, exchange: Exchange, stack: AsyncExitStack, project: str
    ) -> tuple[Arrival, FileAsked]:
        """The file's bytes wherever they stand in the form, and what the fields say of it."""
        fields: dict[str, str] = {}
        arrival: Arrival | None = None
        filename = ""
        items = form.read(exchange, "file", ASKED, self._files.bounds.file)
        async with aclosing(items):
            async for item in items:
                match item:
                    case form.Field(name, value):
                        fields[name] = value
                        check(name, value)
                    case form.Opened(given):
                        filename = named(given)
                        coming = self._files.arriving(project, exchange.declared)
                        arrival = await stack.enter_async_context(coming)
                    case bytes() if arrival is not None:
                        await arrival.write(item)
        asked = FileAsked.read(fields, filename)
        if arrival is None:
            raise MissingParameter("Missing required parameter: 'file'.", param="file")
        if not arrival.size:
            raise InvalidValue("Invalid value for 'file': it is empty.", param="file")
        return arrival, asked

    async def _list(self, exchange: Exchange) -> None:
        query = Query(exchange.query, ("purpose", "limit", "after", "order"))
        limit = query.number("limit", 1, LONGEST_PAGE) or LONGEST_PAGE
        order = query.one("order")
        if order not in (None, "asc", "desc"):
            raise InvalidValue("Invalid value for 'order': asc or desc.", param="order")
        window = Window(limit + 1, query.one("after"), order != "asc")
        async with reachable(), self._pool().connection() as connection:
            found = await file.select(
                connection, exchange.account.project, window, purpose=query.one("purpose")
            )
        data = found[:limit]
        ends = (data[0].id, data[-1].id) if data else ("", "")
        listed = FileList(data, *ends, has_more=len(found) > limit)
        await exchange.respond(200, encode(listed), JSON)

    async def _retrieve(self, exchange: Exchange, id_: str) -> None:
        async with reachable():
            found, _ = await self._files.find(exchange.account.project, id_)
        await exchange.respond(200, encode(found), JSON)

    async def _delete(self, exchange: Exchange, id_: str) -> None:
        """The bytes go a moment later; they are nobody's from now on."""
        project = exchange.account.project
        async with change(self._pool(), exchange) as (connection, changes):
            before = await file.find(connection, project, id_)
            if before is None or not await file.delete(connection, project, id_):
                raise unknown(id_)
            changes.append(Change("file.deleted", id_, before=before, project=project))
        self._swept()
        await exchange.respond(200, encode(FileDeleted(id_)), JSON)

    async def _content(self, exchange: Exchange, id_: str) -> None:
        async with reachable():
            found, consists_of = await self._files.find(exchange.account.project, id_)
        part = content.chosen(exchange, found)
        pieces = self._files.read(consists_of, part.start, part.end)
        async with aclosing(pieces):
            sent = await content.send(exchange, found, part, pieces)
        self._moved.add(sent, ("out",))
