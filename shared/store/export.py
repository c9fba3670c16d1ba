"""Exports of tuned models. A trainer names the fencing number of its claim; False says that the
claim, or the export itself, is gone."""

from __future__ import annotations

import msgspec
from psycopg.types.json import Jsonb

from shared.db import Connection, queries
from shared.store.window import locked, rows
from shared.wire.export import Export, ExportClaim, ExportSource, Format, Quantisation
from shared.wire.openai.fine_tuning import JobError

SQL = queries("export")
LEASE_SECONDS = 15.0
"""A claimed export belongs to its trainer this long after the last renewal."""


async def insert(
    connection: Connection,
    id_: str,
    project: str,
    model: str,
    format_: Format,
    quantisation: Quantisation | None,
) -> None:
    values = {"id": id_, "project": project, "model": model}
    more = {"format": format_, "quantisation": quantisation}
    await connection.execute(SQL["insert_export"], {**values, **more})


async def select(
    connection: Connection,
    project: str,
    limit: int,
    *,
    id_: str | None = None,
    after: str | None = None,
) -> list[Export]:
    """The newest first."""
    values = {"project": project, "limit": limit, "id": id_, "after": after}
    return await rows(connection, SQL["find_exports"], values, Export)


async def count_open(connection: Connection, project: str) -> int:
    cursor = await connection.execute(SQL["count_open_exports"], {"project": project})
    row = await cursor.fetchone()
    return 0 if row is None else int(row["open"])


async def delete(connection: Connection, id_: str, project: str) -> bool:
    """Ends it if it runs; the file that came of it stays."""
    return await locked(connection, SQL["delete_export"], {"id": id_, "project": project})


async def source(connection: Connection, model: str, project: str) -> ExportSource | None:
    """None: the project has no such model any more. It is not deleted in this transaction."""
    values = {"model": model, "project": project}
    found = await rows(connection, SQL["find_export_source"], values, ExportSource)
    return found[0] if found else None


async def claim(connection: Connection, owner: str) -> ExportClaim | None:
    """The one that waits longest."""
    values = {"owner": owner, "seconds": LEASE_SECONDS}
    found = await rows(connection, SQL["claim_export"], values, ExportClaim)
    return found[0] if found else None


async def renew(connection: Connection, claim: ExportClaim) -> bool:
    return await locked(connection, SQL["renew_export"], fence(claim, seconds=LEASE_SECONDS))


async def release(connection: Connection, claim: ExportClaim, *, unused: bool) -> None:
    """It is to begin anew; `unused`: this start does not count."""
    await connection.execute(SQL["release_export"], fence(claim, unused=int(unused)))


async def release_all(connection: Connection, owner: str) -> None:
    """Whatever this trainer had claimed."""
    await connection.execute(SQL["release_exports"], {"owner": owner})


async def succeed(connection: Connection, claim: ExportClaim, file: str, size: int) -> bool:
    return await locked(connection, SQL["succeed_export"], fence(claim, file=file, bytes=size))


async def fail(connection: Connection, claim: ExportClaim, error: JobError) -> bool:
    told = Jsonb(msgspec.to_builtins(error))
    return await locked(connection, SQL["fail_export"], fence(claim, error=told))


def fence(claim: ExportClaim, **values: object) -> dict[str, object]:
    return {"id": claim.id, "fence": claim.fence, **values}
