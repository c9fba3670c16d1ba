"""Blobs in a folder: whole or not there."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.errors import Unavailable
from shared.files.blobs import READ_SIZE, WRITE_SIZE, Lost
from shared.files.disk import Disk


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    made = Disk(tmp_path / "files")
    yield made
    await made.close()


async def stored(disk: Disk, name: str, *pieces: bytes) -> None:
    draft = await disk.draft(name)
    for piece in pieces:
        await draft.write(piece)
    await draft.land()


async def content(disk: Disk, name: str, start: int, end: int) -> bytes:
    return b"".join([data async for data in disk.read(name, start, end)])


async def test_what_is_written_is_read(disk: Disk, tmp_path: Path) -> None:
    pieces = [os.urandom(size) for size in (1, WRITE_SIZE, 3 * WRITE_SIZE + 7, 1)]
    await stored(disk, "a", *pieces)
    whole = b"".join(pieces)
    assert await content(disk, "a", 0, len(whole)) == whole
    start, end = READ_SIZE - 1, 3 * READ_SIZE + 5
    assert await content(disk, "a", start, end) == whole[start:end]
    assert (tmp_path / "files").stat().st_mode & 0o777 == 0o700


async def test_nobody_sees_a_draft(disk: Disk, tmp_path: Path) -> None:
    draft = await disk.draft("a")
    await draft.write(b"x" * 2 * WRITE_SIZE)
    with pytest.raises(Lost):
        await content(disk, "a", 0, 1)
    assert [path.name for path in (tmp_path / "files").iterdir()] == ["a.draft"]
    await draft.drop()
    assert list((tmp_path / "files").iterdir()) == []


async def test_deleting_takes_the_draft_too(disk: Disk, tmp_path: Path) -> None:
    draft = await disk.draft("a")
    await stored(disk, "b", b"b")
    for name in ("a", "b", "never there"):
        await disk.delete(name)
    assert list((tmp_path / "files").iterdir()) == []
    with pytest.raises(Unavailable):
        await draft.land()


async def test_a_file_that_was_cut_is_not_passed_off_as_whole(disk: Disk, tmp_path: Path) -> None:
    await stored(disk, "a", b"x" * 100)
    os.truncate(tmp_path / "files" / "a", 60)
    with pytest.raises(Lost):
        await content(disk, "a", 0, 100)


async def test_a_full_disk(disk: Disk, tmp_path: Path) -> None:
    """The draft's file is a device that takes nothing more."""
    draft = await disk.draft("b")
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, draft.fileno())
    os.close(full)
    with pytest.raises(Unavailable, match="No space left on device"):
        await draft.write(b"x" * WRITE_SIZE)
    await draft.drop()
    assert not (tmp_path / "files" / "b.draft").exists()
