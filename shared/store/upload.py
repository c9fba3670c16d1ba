"""Uploads: files that come in parts. A part is a blob that belongs to its upload."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from shared.db import Connection, queries
from shared.store.blob import Blob
from shared.store.window import locked, rows
from shared.wire.openai.file import Purpose, UploadCreate

SQL = queries("upload")
PARTS_WITHIN = 3600
"""Seconds in which all parts must have come."""
KNOWN = 86_400
"""Seconds after that in which an upload's end can still be told."""


class Upload(msgspec.Struct, frozen=True):
    """`file_seconds` after which the file will expire, `file_id` once it is completed."""

    id: str
    bytes: int
    filename: str
    purpose: Purpose
    file_seconds: int | None
    file_id: str | None
    status: Literal["pending", "completed", "cancelled", "expired"]
    created_at: int
    expires_at: int


async def insert(connection: Connection, id_: str, project: str, asked: UploadCreate) -> None:
    values = {
        "id": id_,
        "project": project,
        "filename": asked.filename,
        "purpose": asked.purpose,
        "bytes": asked.bytes,
        "file_seconds": asked.expires_after.seconds if asked.expires_after else None,
        "seconds": PARTS_WITHIN,
    }
    await connection.execute(SQL["insert_upload"], values)


async def find(
    connection: Connection, project: str, id_: str, *, lock: bool = False
) -> Upload | None:
    """`lock`: it stays as it is until the transaction ends."""
    values = {"id": id_, "project": project}
    if lock and not await locked(connection, SQL["lock_upload"], values):
        return None
    found = await rows(connection, SQL["find_upload"], values, Upload)
    return found[0] if found else None


async def count_pending(connection: Connection, project: str) -> int:
    cursor = await connection.execute(SQL["count_pending"], {"project": project})
    row = await cursor.fetchone()
    assert row is not None
    return int(row["pending"])


async def parts(connection: Connection, id_: str) -> dict[str, int]:
    """Bytes of each part by its id."""
    found = await rows(connection, SQL["find_parts"], {"id": id_}, Blob)
    return {part.id: part.bytes for part in found}


async def complete(connection: Connection, id_: str, file: str, parts: Sequence[str]) -> None:
    """The parts are the file's, in this order; others are nobody's."""
    values = {"id": id_, "file": file, "parts": list(parts), "status": "completed"}
    for step in ("take_parts", "drop_parts", "end_upload"):
        await connection.execute(SQL[step], values)


async def cancel(connection: Connection, id_: str) -> None:
    values = {"id": id_, "file": None, "status": "cancelled"}
    for step in ("drop_parts", "end_upload"):
        await connection.execute(SQL[step], values)


async def expire(connection: Connection) -> None:
    """Parts of uploads whose time is over are nobody's; uploads long over are forgotten."""
    await connection.execute(SQL["drop_expired_parts"])
    await connection.execute(SQL["delete_old_uploads"], {"seconds": KNOWN})
