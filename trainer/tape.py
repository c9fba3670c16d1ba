"""Files as one tar, piece by piece: none is ever whole in memory."""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

BLOCK = 512
PIECE = 1 << 20
END = bytes(2 * BLOCK)


class Entry(NamedTuple):
    """`size` bytes under `name`, of a file or given as they are."""

    name: str
    size: int
    source: Path | bytes


def of_folder(folder: Path, below: str) -> list[Entry]:
    """The folder's own files, by name; raises OSError."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return [Entry(f"{below}/{path.name}", path.stat().st_size, path) for path in files]


def size(entries: Sequence[Entry]) -> int:
    """Of the tar."""
    return sum(len(head(one)) + one.size + padding(one.size) for one in entries) + len(END)


async def pieces(entries: Sequence[Entry]) -> AsyncIterator[bytes]:
    """Raises OSError, also where a file is not as long as it was."""
    for one in entries:
        yield head(one)
        if isinstance(one.source, bytes):
            yield one.source
        else:
            async for data in content(one.source, one.size):
                yield data
        yield bytes(padding(one.size))
    yield END


async def content(path: Path, length: int) -> AsyncIterator[bytes]:
    """As many bytes of a file; raises OSError where it has fewer."""
    with await asyncio.to_thread(path.open, "rb") as file:
        async for data in read(file, length):
            yield data


async def read(file: BinaryIO, length: int) -> AsyncIterator[bytes]:
    while length:
        data = await asyncio.to_thread(file.read, min(PIECE, length))
        if not data:
            raise OSError("a file became shorter while it was read")
        length -= len(data)
        yield data


def head(one: Entry) -> bytes:
    told = tarfile.TarInfo(one.name)
    told.size, told.mode = one.size, 0o644
    return told.tobuf(tarfile.GNU_FORMAT)


def padding(length: int) -> int:
    return -length % BLOCK
