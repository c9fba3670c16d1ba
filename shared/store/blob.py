"""The books of what is stored: each blob's bytes count for its project until they are gone."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from shared.db import Connection, Pool, queries, transaction
from shared.store.window import rows

SQL = queries("blob")
LEASE = 15
"""Seconds after which a blob nobody has kept or renewed is swept."""


class Blob(msgspec.Struct, frozen=True):
    id: str
    bytes: int


class Room(msgspec.Struct, frozen=True):
    """What a project has, and what it may have, in bytes."""

    bytes: int
    blobs: int
    quota: int


class Wanted(NamedTuple):
    id: str
    project: str
    bytes: int
    quota: int
    """Bytes a project may have that has no quota of its own."""
    most: int
    """Blobs it may have."""


async def reserve(pool: Pool, wanted: Wanted, *, fresh: bool) -> Room | None:
    """Books that many bytes under a lease; `fresh`: a new blob, else one that grew.

    Returns the project's room, without the blob, when it is too little, and changes nothing then.
    Raises LookupError when a blob that grew is not there any more.
    """
    values = {**wanted._asdict(), "lease": LEASE}
    async with transaction(pool) as connection:
        found = await room(connection, wanted.project, wanted.quota, without=wanted.id)
        if found.bytes + wanted.bytes > found.quota or found.blobs >= wanted.most:
            return found
        cursor = await connection.execute(SQL["put_blob" if fresh else "grow_blob"], values)
        if not cursor.rowcount:
            raise LookupError(wanted.id)
    return None


async def room(connection: Connection, project: str, quota: int, *, without: str = "") -> Room:
    """`quota`: of a project that has none of its own. The room is this transaction's."""
    values = {"project": project, "quota": quota, "id": without}
    locked = await (await connection.execute(SQL["lock_room"], values)).fetchone()
    found = await (await connection.execute(SQL["find_room"], values)).fetchone()
    assert locked is not None
    assert found is not None
    return Room(found["bytes"], found["blobs"], locked["quota"])


async def renew(pool: Pool, id_: str) -> bool:
    """Whether it is still there."""
    async with pool.connection() as connection:
        cursor = await connection.execute(SQL["renew_blob"], {"id": id_, "lease": LEASE})
    return bool(cursor.rowcount)


async def release(pool: Pool, id_: str) -> bool:
    """Ends its lease: it can be swept, unless somebody kept it. False: it was swept."""
    async with pool.connection() as connection:
        cursor = await connection.execute(SQL["release_blob"], {"id": id_})
    return bool(cursor.rowcount)


async def keep(
    connection: Connection, blob: Blob, *, file: str | None = None, upload: str | None = None
) -> bool:
    """Gives it to a file or an upload. False: its lease was over, and it was swept."""
    values = {"id": blob.id, "bytes": blob.bytes, "file": file, "upload": upload}
    cursor = await connection.execute(SQL["keep_blob"], values)
    return bool(cursor.rowcount)


async def of_file(connection: Connection, file: str) -> list[Blob]:
    """In their order."""
    return await rows(connection, SQL["find_blobs"], {"file": file}, Blob)


async def loose(connection: Connection, limit: int) -> list[str]:
    """Blobs of nobody. They are this transaction's; those that another one has are left out."""
    cursor = await connection.execute(SQL["find_loose"], {"limit": limit})
    return [row["id"] for row in await cursor.fetchall()]


async def delete(connection: Connection, ids: list[str]) -> None:
    await connection.execute(SQL["delete_blobs"], {"ids": ids})
