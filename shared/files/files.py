"""Files of projects: in, out, and gone."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from shared import ids
from shared.db import Connection, Pool, transaction
from shared.errors import NotFound, Unavailable
from shared.files import arrival
from shared.files.arrival import Arrival, Bounds
from shared.files.blobs import Blobs
from shared.store import blob, file
from shared.store.blob import Blob, Wanted
from shared.wire.openai.file import KEPT, FileObject

PLACES = 64
"""Blobs that arrive at one process at once; each takes up to some MiB of memory."""
PLACE_SECONDS = 10.0
"""How long another one waits."""


class Files:
    """`pool` is known once the process runs; `swept` is called when there is something to sweep."""

    def __init__(
        self, pool: Callable[[], Pool], blobs: Blobs, bounds: Bounds, swept: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._blobs = blobs
        self._swept = swept
        self._places = asyncio.Semaphore(PLACES)
        self.bounds = bounds

    @asynccontextmanager
    async def arriving(
        self,
        project: str,
        expected: int | None = None,
        *,
        part: int | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Arrival]:
        """A blob that comes in. `expected`: its bytes, as far as known. `part`: bytes that a part
        of an upload may have. `limit`: those that a file of the hub's own making may have."""
        whole = self.bounds.file if limit is None else limit
        prefix, limit = ("blob_", whole) if part is None else ("part_", part)
        size = min(limit, expected or 0)
        wanted = Wanted(ids.new(prefix), project, size, self.bounds.quota, arrival.MOST_BLOBS)
        async with self._place():
            coming = arrival.arriving(self._pool(), self._blobs, wanted, limit, self._swept)
            async with coming as arrived:
                yield arrived

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Each that arrives has buffers, so there is an end to how many do at once."""
        try:
            async with asyncio.timeout(PLACE_SECONDS):
                await self._places.acquire()
        except TimeoutError:
            raise Unavailable(
                f"{PLACES} files arrive already. Send it again later.", retry_after=5
            ) from None
        try:
            yield
        finally:
            self._places.release()

    async def keep(
        self,
        connection: Connection,
        arrived: Arrival,
        project: str,
        filename: str,
        purpose: KEPT,
        seconds: int | None = None,
    ) -> FileObject:
        """Makes what has landed a file of the project, when the transaction commits."""
        id_ = ids.new("file-")
        made = await file.insert(
            connection,
            id_,
            project,
            filename=filename,
            purpose=purpose,
            size=arrived.size,
            seconds=seconds,
        )
        await arrived.keep(connection, file=id_)
        return made

    async def add(
        self, project: str, filename: str, purpose: KEPT, content: AsyncIterable[bytes]
    ) -> FileObject:
        """A file of the hub's own making, which only the project's room bounds."""
        async with self.arriving(project, limit=self.bounds.quota) as arrived:
            async for data in content:
                await arrived.write(data)
            await arrived.land()
            async with transaction(self._pool()) as connection:
                return await self.keep(connection, arrived, project, filename, purpose)

    async def fits(self, project: str, size: int) -> None:
        """Raises StorageExhausted where the project has no room for so many bytes now."""
        async with transaction(self._pool()) as connection:
            room = await blob.room(connection, project, self.bounds.quota)
        if room.bytes + size > room.quota:
            raise arrival.exhausted(room, size)

    async def find(self, project: str, id_: str) -> tuple[FileObject, list[Blob]]:
        """A file, and what it consists of; raises NotFound."""
        async with self._pool().connection() as connection:
            found = await file.find(connection, project, id_)
            if found is None:
                raise unknown(id_)
            return found, await blob.of_file(connection, id_)

    async def read(
        self, consists_of: Sequence[Blob], start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Bytes [start, end) of the blobs one behind the other."""
        for one in consists_of:
            stop = one.bytes if end is None else min(one.bytes, end)
            if start < stop:
                async with aclosing(self._blobs.read(one.id, start, stop)) as pieces:
                    async for data in pieces:
                        yield data
            start = max(0, start - one.bytes)
            end = None if end is None else end - one.bytes
            if end is not None and end <= 0:
                return

    async def md5(self, consists_of: Sequence[Blob]) -> str:
        """In hex."""
        digest = hashlib.md5(usedforsecurity=False)
        async with aclosing(self.read(consists_of)) as pieces:
            async for data in pieces:
                await asyncio.to_thread(digest.update, data)
        return digest.hexdigest()

    async def fetch(self, project: str, id_: str, path: Path) -> FileObject:
        """Copies a file to `path`, whole or not at all; raises NotFound, Lost or Unavailable."""
        found, consists_of = await self.find(project, id_)
        part = path.with_name(f"{path.name}.part")
        with await asyncio.to_thread(part.open, "wb") as copy:
            async with aclosing(self.read(consists_of)) as pieces:
                async for data in pieces:
                    await asyncio.to_thread(copy.write, data)
        await asyncio.to_thread(part.replace, path)
        return found

    async def close(self) -> None:
        await self._blobs.close()


def unknown(id_: str, what: str = "file") -> NotFound:
    return NotFound(f"No such {what}: {id_!r}.", param="id")
