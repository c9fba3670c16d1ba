"""The books of blobs in a real database: no more than the quota, nothing forgotten."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared import db
from shared.db import Pool
from shared.errors import StorageExhausted, Unavailable
from shared.files import arrival, files
from shared.files.arrival import Bounds
from shared.files.blobs import Lost
from shared.files.disk import Disk
from shared.files.files import Files
from shared.files.sweep import Sweeper
from shared.store import blob
from shared.store.api_key import DEFAULT_PROJECT as PROJECT
from shared.store.blob import Wanted

QUOTA = 10_000


class Shelf:
    def __init__(self, pool: Pool, folder: Path) -> None:
        self.pool = pool
        self.folder = folder
        self.disk = Disk(folder)
        self.sweeper = Sweeper(self.disk)
        self.files = Files(lambda: pool, self.disk, Bounds(QUOTA, QUOTA), self.sweeper.wake)

    async def add(self, content: bytes) -> str:
        return (await self.files.add(PROJECT, "a", "fine-tune-results", pieces(content))).id

    async def one(self, query: str) -> Any:
        async with self.pool.connection() as connection:
            row = await (await connection.execute(query.encode())).fetchone()
        assert row is not None
        return next(iter(row.values()))

    async def execute(self, statement: str) -> None:
        async with self.pool.connection() as connection:
            await connection.execute(statement.encode())

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


@pytest.fixture
async def shelf(database_url: str, tmp_path: Path) -> AsyncIterator[Shelf]:
    async with db.connect(database_url) as pool:
        shelf = Shelf(pool, tmp_path / "files")
        yield shelf
        await shelf.disk.close()


async def test_forty_at_once_take_no_more_than_the_quota(shelf: Shelf) -> None:
    wanted = [Wanted(f"blob_{n}", PROJECT, 999, QUOTA, 100) for n in range(40)]
    found = await asyncio.gather(*(blob.reserve(shelf.pool, one, fresh=True) for one in wanted))
    assert found.count(None) == 10
    assert await shelf.one("SELECT sum(bytes) FROM blob") == 9_990


async def test_the_number_is_bounded_too(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "MOST_BLOBS", 2)
    await shelf.add(b"a")
    await shelf.add(b"b")
    with pytest.raises(StorageExhausted, match="2 files"):
        await shelf.add(b"c")


async def test_what_does_not_say_how_much_it_is_may_fill_the_quota(shelf: Shelf) -> None:
    await shelf.add(b"x" * 4_000)
    await shelf.add(b"x" * 6_000)
    with pytest.raises(StorageExhausted, match="may have 10000 bytes"):
        await shelf.add(b"x")


async def test_what_is_added_can_be_fetched(shelf: Shelf, tmp_path: Path) -> None:
    id_ = await shelf.add(b"results")
    found = await shelf.files.fetch(PROJECT, id_, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"results"
    assert (found.bytes, found.purpose) == (7, "fine-tune-results")
    (name,) = shelf.names()
    (shelf.folder / name).unlink()
    with pytest.raises(Lost):
        await shelf.files.fetch(PROJECT, id_, tmp_path / "again")
    assert not (tmp_path / "again").exists()


async def test_as_many_arrive_at_once_as_memory_is_meant_for(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PLACES", 1)
    monkeypatch.setattr(files, "PLACE_SECONDS", 0.05)
    async with db.connect(database_url) as pool:
        shelf = Shelf(pool, tmp_path / "files")
        async with shelf.files.arriving(PROJECT):
            with pytest.raises(Unavailable, match="1 files arrive already"):
                await shelf.add(b"another")
            assert await shelf.one("SELECT count(*) FROM blob") == 1
        await shelf.add(b"another")
        await shelf.disk.close()


async def test_what_breaks_off_leaves_nothing(shelf: Shelf) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"begun"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await shelf.files.add(PROJECT, "a", "batch_output", broken())
    assert shelf.names() == set()
    assert await shelf.one("SELECT count(*) FROM blob") == 1
    await shelf.sweeper.sweep(shelf.pool)
    assert await shelf.one("SELECT count(*) FROM blob") == 0


async def test_a_writer_that_froze_finds_its_blob_swept(shelf: Shelf) -> None:
    """Its lease ends while it does nothing: what it writes afterwards becomes no file."""
    for when in ("before it lands", "after it landed"):
        with pytest.raises(Unavailable):
            async with shelf.files.arriving(PROJECT) as coming:
                await coming.write(b"x")
                if when == "after it landed":
                    await coming.land()
                await shelf.execute("UPDATE blob SET lease_until = now()")
                await shelf.sweeper.sweep(shelf.pool)
                assert shelf.names() == set()
                if not coming.landed:
                    await coming.land()
                async with db.transaction(shelf.pool) as connection:
                    await shelf.files.keep(connection, coming, PROJECT, "a", "evals")
    assert shelf.names() == set()
    assert await shelf.one("SELECT count(*) FROM file") == 0


async def test_an_arrival_is_renewed(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "RENEW_SECONDS", 0.01)
    async with shelf.files.arriving(PROJECT) as coming:
        before = await shelf.one("SELECT lease_until FROM blob")
        deadline = time.monotonic() + 30
        while await shelf.one("SELECT lease_until FROM blob") == before:
            assert time.monotonic() < deadline
        await shelf.execute("DELETE FROM blob")
        while not coming.lost:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        with pytest.raises(Unavailable):
            await coming.write(b"x")


async def test_a_commit_that_seemed_to_fail_may_have_kept_the_bytes(shelf: Shelf) -> None:
    """The answer of the commit is lost on its way: the file is there, and stays."""
    with pytest.raises(ConnectionError):
        async with shelf.files.arriving(PROJECT) as coming:
            await coming.write(b"kept")
            await coming.land()
            async with db.transaction(shelf.pool) as connection:
                await shelf.files.keep(connection, coming, PROJECT, "a", "evals")
            raise ConnectionError
    await shelf.sweeper.sweep(shelf.pool)
    assert await shelf.one("SELECT count(*) FROM file") == 1
    assert len(shelf.names()) == 1


async def test_a_file_that_cannot_be_removed_is_tried_again(shelf: Shelf) -> None:
    id_ = await shelf.add(b"x")
    (name,) = shelf.names()
    (shelf.folder / name).unlink()
    (shelf.folder / name).mkdir()
    await shelf.execute(f"DELETE FROM file WHERE id = '{id_}'")
    with pytest.raises(Unavailable):
        await shelf.sweeper.sweep(shelf.pool)
    assert await shelf.one("SELECT count(*) FROM blob") == 1
    (shelf.folder / name).rmdir()
    await shelf.sweeper.sweep(shelf.pool)
    assert await shelf.one("SELECT count(*) FROM blob") == 0
