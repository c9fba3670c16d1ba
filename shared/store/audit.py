"""The audit log: who changed what, written in the transaction of the change, never rewritten."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from psycopg.types.json import Jsonb

from shared import ids
from shared.db import Connection, queries
from shared.redact import redact
from shared.store.window import rows

SQL = queries("audit")


class Actor(msgspec.Struct, frozen=True):
    """The key that acted; `session`: through a login of the dashboard."""

    key: str
    session: bool
    request: str


class Change(msgspec.Struct, frozen=True):
    """What one action did to `target`, an id. None: it was not there before, or is not now."""

    action: str
    target: str
    before: msgspec.Struct | None = None
    after: msgspec.Struct | None = None
    project: str | None = None


class Entry(msgspec.Struct, frozen=True):
    """One row; `at` is epoch seconds."""

    id: str
    at: int
    action: str
    actor_key: str
    session: bool
    target: str
    project: str | None
    project_name: str | None
    before: dict[str, object] | None
    after: dict[str, object] | None
    request_id: str


class Filter(msgspec.Struct, frozen=True):
    """None: any. `since` and `until` are epoch seconds, the second one excluded."""

    actions: Sequence[str] | None = None
    projects: Sequence[str] | None = None
    actors: Sequence[str] | None = None
    targets: Sequence[str] | None = None
    since: int | None = None
    until: int | None = None
    after: str | None = None
    before: str | None = None


async def insert(connection: Connection, actor: Actor, change: Change) -> None:
    values = {
        "id": ids.new("audit_log-"),
        "action": change.action,
        "actor_key": actor.key,
        "session": actor.session,
        "target": change.target,
        "project": change.project,
        "before": shown(change.before),
        "after": shown(change.after),
        "request_id": actor.request,
    }
    await connection.execute(SQL["insert_audit"], values)


async def select(connection: Connection, wanted: Filter, limit: int) -> list[Entry]:
    """The newest first."""
    values = {**msgspec.structs.asdict(wanted), "limit": limit}
    found = await rows(connection, SQL["find_audit"], values, Entry)
    return found[::-1] if wanted.before is not None else found


def shown(state: msgspec.Struct | None) -> Jsonb | None:
    if state is None:
        return None
    return Jsonb(redact("state", msgspec.to_builtins(state)))
