"""Permissions of tuned models: which other projects may use one."""

from __future__ import annotations

from collections.abc import Collection

from shared import ids
from shared.db import Connection, queries
from shared.store.window import ONE, Window, locked, rows
from shared.wire.openai.fine_tuning import CheckpointPermission

SQL = queries("permission")


async def owner(connection: Connection, model: str) -> str | None:
    """The project of a model that is offered, and stays so until this transaction ends."""
    cursor = await connection.execute(SQL["lock_shared_model"], {"model": model})
    row = await cursor.fetchone()
    return None if row is None else row["project"]


async def grantees(connection: Connection, projects: Collection[str], owner: str) -> set[str]:
    """Those of some ids that are active projects of the owner's organisation."""
    values = {"projects": list(projects), "owner": owner}
    cursor = await connection.execute(SQL["find_grantees"], values)
    return {row["id"] for row in await cursor.fetchall()}


async def grant(connection: Connection, model: str, project: str) -> None:
    """A permission that is there already stays as it is."""
    values = {"id": ids.new("cp_"), "model": model, "project": project}
    await connection.execute(SQL["insert_permission"], values)


async def select(
    connection: Connection,
    model: str,
    window: Window = ONE,
    *,
    projects: Collection[str] | None = None,
    id_: str | None = None,
) -> list[CheckpointPermission]:
    values = {"model": model, "id": id_, "projects": None if projects is None else list(projects)}
    query = SQL["find_permissions"]
    return await rows(connection, query, {**values, **window._asdict()}, CheckpointPermission)


async def delete(connection: Connection, model: str, id_: str) -> bool:
    return await locked(connection, SQL["delete_permission"], {"model": model, "id": id_})
