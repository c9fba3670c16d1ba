"""Blobs as files in one folder, which all processes that read and write them share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import FileIO
from pathlib import Path
from typing import TypeVar

from shared.files.blobs import READ_SIZE, WRITE_SIZE, Lost, unread, unstored

THREADS = 4
"""Disk calls of one process at once: a slow disk must not hold up an event loop."""

T = TypeVar("T")


class Disk:
    """`<name>.draft` while it arrives, `<name>` once it is whole and on the disk."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder, closed to other accounts; raises OSError."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._threads = ThreadPoolExecutor(THREADS, "files")

    async def draft(self, name: str) -> DiskDraft:
        path = self._folder / f"{name}.draft"
        try:
            return DiskDraft(self, path, await self.run(partial(FileIO, path, "xb")))
        except OSError as error:
            raise unstored(error) from error

    async def read(self, name: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        try:
            file = await self.run(partial(FileIO, self._folder / name, "rb"))
        except FileNotFoundError as error:
            raise Lost(name) from error
        except OSError as error:
            raise unread(error) from error
        try:
            await self.run(partial(file.seek, start))
            while start < end:
                data = await self.run(partial(file.read, min(READ_SIZE, end - start)))
                if not data:
                    raise Lost(name)
                start += len(data)
                yield data
        except OSError as error:
            raise unread(error) from error
        finally:
            file.close()

    async def delete(self, name: str) -> None:
        for path in (self._folder / f"{name}.draft", self._folder / name):
            try:
                await self.run(partial(path.unlink, missing_ok=True))
            except OSError as error:
                raise unstored(error) from error

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)

    async def run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


class DiskDraft:
    def __init__(self, disk: Disk, path: Path, file: FileIO) -> None:
        self._disk = disk
        self._path = path
        self._file = file
        self._gathered: list[bytes] = []
        self._size = 0

    def fileno(self) -> int:
        return self._file.fileno()

    async def write(self, data: bytes) -> None:
        self._gathered.append(data)
        self._size += len(data)
        if self._size >= WRITE_SIZE:
            await self._call(self._flush)

    async def land(self) -> None:
        await self._call(self._land)

    async def drop(self) -> None:
        self._gathered.clear()
        await self._disk.run(self._drop)

    async def _call(self, step: Callable[[], None]) -> None:
        try:
            await self._disk.run(step)
        except OSError as error:
            raise unstored(error) from error

    def _flush(self) -> None:
        rest = memoryview(b"".join(self._gathered))
        self._gathered, self._size = [], 0
        while rest:
            rest = rest[self._file.write(rest) :]

    def _land(self) -> None:
        """The bytes are on the disk before the name is, and the name before anybody is told."""
        self._flush()
        os.fsync(self.fileno())
        self._file.close()
        self._path.rename(self._path.with_suffix(""))
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _drop(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)
