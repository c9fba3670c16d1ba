"""Projects: keys belong to one, and usage, limits and budgets are counted for it."""

from __future__ import annotations

import msgspec
from psycopg.types.json import Jsonb

from shared.db import Connection, queries
from shared.store.window import ONE, Window, columns, locked, rows
from shared.wire.admin import Project, ProjectCreate

SQL = queries("project")


async def insert(connection: Connection, id_: str, organisation: str, asked: ProjectCreate) -> None:
    """Raises psycopg.errors.UniqueViolation when an active project has this name."""
    values = {"id": id_, "organisation": organisation, **told(asked)}
    await connection.execute(SQL["insert_project"], values)


async def update(connection: Connection, project: Project) -> None:
    """Writes what can change of it; raises psycopg.errors.UniqueViolation, as `insert`."""
    await connection.execute(SQL["update_project"], {"id": project.id, **told(project)})


def told(project: Project | ProjectCreate) -> dict[str, object]:
    cache = Jsonb(msgspec.to_builtins(project.cache))
    own = {"name": project.name, "file_bytes": project.file_bytes, "cache": cache}
    return {**own, **columns(project.limits)}


async def archive(connection: Connection, id_: str) -> None:
    """Its keys stop working; nothing is deleted."""
    await connection.execute(SQL["archive_project"], {"id": id_})


async def find(connection: Connection, id_: str, *, lock: bool = False) -> Project | None:
    if lock and not await locked(connection, SQL["lock_project"], {"id": id_}):
        return None
    found = await select(connection, ONE, id_=id_, archived=True)
    return found[0] if found else None


async def select(
    connection: Connection, window: Window, *, archived: bool, id_: str | None = None
) -> list[Project]:
    values = {"id": id_, "archived": archived, **window._asdict()}
    return await rows(connection, SQL["find_projects"], values, Project)
