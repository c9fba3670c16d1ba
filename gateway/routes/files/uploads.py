"""POST /v1/uploads, and /parts, /complete and /cancel below each."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from typing import NoReturn

import msgspec
from litestar.handlers import ASGIRouteHandler

from gateway import form
from gateway.exchange import JSON, Exchange
from gateway.front import Front
from gateway.routes.admin.desk import reachable
from gateway.routes.files.asked import named
from gateway.routes.files.books import BASES, below, change, sane
from shared import ids
from shared.db import Connection, Pool
from shared.errors import Conflict, InvalidValue, MissingParameter, StorageExhausted
from shared.files.arrival import Arrival, exhausted
from shared.files.files import Files, unknown
from shared.metrics import Counter
from shared.store import blob, file, upload
from shared.store.audit import Change
from shared.store.upload import Upload
from shared.wire.openai import error
from shared.wire.openai.file import (
    FileObject,
    PartObject,
    UploadComplete,
    UploadCreate,
    UploadObject,
)

LARGEST_UPLOAD = 8 << 30
LARGEST_PART = 64 << 20
LARGEST_BODY = 1 << 20
MOST_PENDING = 100
"""Uploads of a project that wait for parts."""

decode_create = msgspec.json.Decoder(UploadCreate)
decode_complete = msgspec.json.Decoder(UploadComplete)
encode = msgspec.json.Encoder().encode


class UploadRoutes:
    def __init__(
        self, pool: Callable[[], Pool], files: Files, moved: Counter, swept: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._files = files
        self._moved = moved
        self._swept = swept

    def routes(self, front: Front) -> list[ASGIRouteHandler]:
        paths = [f"{base}/uploads" for base in BASES]
        return [front.route("uploads", paths, ("POST",), self, needs="files", is_mount=True)]

    async def __call__(self, exchange: Exchange) -> None:
        match below(exchange, "uploads"):
            case []:
                await self._create(exchange)
            case [id_, "parts"]:
                await self._add(exchange, sane(id_, "upload"))
            case [id_, "complete"]:
                await self._complete(exchange, sane(id_, "upload"))
            case [id_, "cancel"]:
                await self._cancel(exchange, sane(id_, "upload"))
            case _:
                raise exchange.unknown()

    async def _create(self, exchange: Exchange) -> None:
        asked = error.decode(decode_create, await exchange.read(LARGEST_BODY))
        asked = msgspec.structs.replace(asked, filename=named(asked.filename, "filename"))
        if asked.bytes > LARGEST_UPLOAD:
            raise InvalidValue(
                f"Invalid value for 'bytes': must be at most {LARGEST_UPLOAD}.", param="bytes"
            )
        id_, project = ids.new("upload_"), exchange.account.project
        async with change(self._pool(), exchange) as (connection, _):
            room = await blob.room(connection, project, self._files.bounds.quota)
            if room.bytes + asked.bytes > room.quota:
                raise exhausted(room, asked.bytes)
            if await upload.count_pending(connection, project) >= MOST_PENDING:
                raise StorageExhausted(
                    f"The project has {MOST_PENDING} uploads that are not complete."
                    " Complete or cancel some first."
                )
            await upload.insert(connection, id_, project, asked)
            made = await upload.find(connection, project, id_)
            assert made is not None
        await exchange.respond(200, encode(shown(made)), JSON)

    async def _add(self, exchange: Exchange, id_: str) -> None:
        project = exchange.account.project
        async with reachable(), self._pool().connection() as connection:
            pending(await upload.find(connection, project, id_), id_)
        async with AsyncExitStack() as stack:
            async with reachable():
                arrival = await self._receive(exchange, stack, project)
                await arrival.land()
            async with reachable(), change(self._pool(), exchange) as (connection, _):
                found = await upload.find(connection, project, id_, lock=True)
                await self._fits(connection, pending(found, id_), arrival.size)
                await arrival.keep(connection, upload=id_)
        self._moved.add(arrival.size, ("in",))
        part = PartObject(arrival.id, int(time.time()), id_)
        await exchange.respond(200, encode(part), JSON)

    async def _receive(self, exchange: Exchange, stack: AsyncExitStack, project: str) -> Arrival:
        arrival: Arrival | None = None
        items = form.read(exchange, "data", (), LARGEST_PART)
        async with aclosing(items):
            async for item in items:
                match item:
                    case form.Opened():
                        size = exchange.declared
                        coming = self._files.arriving(project, size, part=LARGEST_PART)
                        arrival = await stack.enter_async_context(coming)
                    case bytes() if arrival is not None:
                        await arrival.write(item)
        if arrival is None:
            raise MissingParameter("Missing required parameter: 'data'.", param="data")
        if not arrival.size:
            raise InvalidValue("Invalid value for 'data': it is empty.", param="data")
        return arrival

    async def _fits(self, connection: Connection, it: Upload, size: int) -> None:
        """More parts than an upload has bytes would be of no use: one can be replaced once."""
        there = sum((await upload.parts(connection, it.id)).values())
        if there + size > 2 * it.bytes:
            raise InvalidValue(
                f"Invalid value for 'data': the parts have {there + size} bytes together, the"
                f" upload {it.bytes}.",
                param="data",
            )

    async def _complete(self, exchange: Exchange, id_: str) -> None:
        asked = error.decode(decode_complete, await exchange.read(LARGEST_BODY))
        project = exchange.account.project
        if asked.md5 is not None:
            await self._verify(project, id_, asked)
        async with change(self._pool(), exchange) as (connection, changes):
            it = await upload.find(connection, project, id_, lock=True)
            if it is not None and it.status == "completed":
                made = await self._again(connection, project, it, asked)
            else:
                made = await self._assemble(connection, project, pending(it, id_), asked)
                changes.append(Change("file.created", made.id, after=made, project=project))
            done = await upload.find(connection, project, id_)
            assert done is not None
        self._swept()
        await exchange.respond(200, encode(shown(done, made)), JSON)

    async def _assemble(
        self, connection: Connection, project: str, it: Upload, asked: UploadComplete
    ) -> FileObject:
        self._chosen(it, await upload.parts(connection, it.id), asked)
        made = await file.insert(
            connection,
            ids.new("file-"),
            project,
            filename=it.filename,
            purpose=it.purpose,
            size=it.bytes,
            seconds=it.file_seconds,
        )
        await upload.complete(connection, it.id, made.id, asked.part_ids)
        return made

    async def _again(
        self, connection: Connection, project: str, it: Upload, asked: UploadComplete
    ) -> FileObject:
        """The same file for a client that did not get the answer and asks the same again."""
        made = None if it.file_id is None else await file.find(connection, project, it.file_id)
        if made is None:
            ended(it)
        consists_of = await blob.of_file(connection, made.id)
        if tuple(one.id for one in consists_of) != asked.part_ids:
            ended(it)
        return made

    async def _verify(self, project: str, id_: str, asked: UploadComplete) -> None:
        """Reads all parts, before anything is changed; a part never changes."""
        async with reachable():
            async with self._pool().connection() as connection:
                it = await upload.find(connection, project, id_)
                if it is not None and it.status == "completed":
                    return
                it = pending(it, id_)
                chosen = self._chosen(it, await upload.parts(connection, id_), asked)
            if await self._files.md5(chosen) != (asked.md5 or "").lower():
                raise InvalidValue(
                    "Invalid value for 'md5': the parts in this order have another checksum.",
                    param="md5",
                )

    def _chosen(self, it: Upload, there: dict[str, int], asked: UploadComplete) -> list[blob.Blob]:
        """Raises InvalidValue unless the parts are the upload's and are as many bytes as it."""
        for index, part in enumerate(asked.part_ids):
            param = f"part_ids[{index}]"
            if part not in there:
                raise InvalidValue(f"The upload has no part {part!r}.", param=param)
            if asked.part_ids.index(part) != index:
                raise InvalidValue(f"The part {part!r} is there twice.", param=param)
        size = sum(there[part] for part in asked.part_ids)
        if size != it.bytes:
            raise InvalidValue(
                f"The parts have {size} bytes together, the upload was to have {it.bytes}.",
                param="part_ids",
            )
        return [blob.Blob(part, there[part]) for part in asked.part_ids]

    async def _cancel(self, exchange: Exchange, id_: str) -> None:
        await exchange.read(LARGEST_BODY)
        project = exchange.account.project
        async with change(self._pool(), exchange) as (connection, _):
            it = await upload.find(connection, project, id_, lock=True)
            if it is None:
                raise unknown(id_, "upload")
            if it.status == "completed":
                ended(it)
            await upload.cancel(connection, id_)
            done = await upload.find(connection, project, id_)
            assert done is not None
        self._swept()
        await exchange.respond(200, encode(shown(done)), JSON)


def pending(it: Upload | None, id_: str) -> Upload:
    """Raises NotFound, or Conflict for one that takes no parts any more."""
    if it is None:
        raise unknown(id_, "upload")
    if it.status != "pending":
        ended(it)
    return it


def ended(it: Upload) -> NoReturn:
    raise Conflict(f"The upload {it.id!r} is {it.status}.", param="upload_id")


def shown(it: Upload, made: FileObject | None = None) -> UploadObject:
    return UploadObject(
        it.id,
        it.bytes,
        it.created_at,
        it.expires_at,
        it.filename,
        it.purpose,
        it.status,
        file=made,
    )
