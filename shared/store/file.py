"""Files, as their project sees them. One whose time is over is not seen any more."""

from __future__ import annotations

from shared.db import Connection, queries
from shared.store.window import ONE, Window, rows
from shared.wire.openai.file import KEPT, FileObject

SQL = queries("file")


async def insert(
    connection: Connection,
    id_: str,
    project: str,
    *,
    filename: str,
    purpose: KEPT,
    size: int,
    seconds: int | None,
) -> FileObject:
    """`seconds` until it expires; None: never."""
    values = {"id": id_, "project": project, "filename": filename, "purpose": purpose}
    more = {"bytes": size, "seconds": seconds}
    (made,) = await rows(connection, SQL["insert_file"], {**values, **more}, FileObject)
    return made


async def find(connection: Connection, project: str, id_: str) -> FileObject | None:
    found = await select(connection, project, ONE, id_=id_)
    return found[0] if found else None


async def select(
    connection: Connection,
    project: str,
    window: Window,
    *,
    id_: str | None = None,
    purpose: str | None = None,
) -> list[FileObject]:
    values = {"project": project, "id": id_, "purpose": purpose, **window._asdict()}
    return await rows(connection, SQL["find_files"], values, FileObject)


async def delete(connection: Connection, project: str, id_: str) -> bool:
    """Its blobs are nobody's from then on. Whether it was there."""
    cursor = await connection.execute(SQL["delete_file"], {"id": id_, "project": project})
    return bool(cursor.rowcount)


async def delete_expired(connection: Connection, limit: int) -> list[str]:
    cursor = await connection.execute(SQL["delete_expired_files"], {"limit": limit})
    return [row["id"] for row in await cursor.fetchall()]
