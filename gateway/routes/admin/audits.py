"""The audit log, in OpenAI's shape with what changed beside it."""

from __future__ import annotations

from gateway.routes.admin.desk import Call
from gateway.routes.admin.query import Query, page
from shared.errors import InvalidValue
from shared.store import audit
from shared.wire.admin import Page

NAMES = (
    *("limit", "after", "before", "event_types", "project_ids", "actor_ids", "resource_ids"),
    *("effective_at[gt]", "effective_at[gte]", "effective_at[lt]", "effective_at[lte]"),
)
SEVERAL = 100


async def select(call: Call) -> Page:
    query = call.query(*NAMES)
    wanted = audit.Filter(
        actions=few(query, "event_types"),
        projects=few(query, "project_ids"),
        actors=few(query, "actor_ids"),
        targets=few(query, "resource_ids"),
        since=bound(query, "gte", "gt"),
        until=bound(query, "lt", "lte"),
        after=query.one("after"),
        before=query.one("before"),
    )
    if wanted.after is not None and wanted.before is not None:
        raise InvalidValue("Give either 'after' or 'before'.", param="before")
    limit = query.limit()
    rows = await audit.select(call.connection, wanted, limit + 1)
    more = len(rows) > limit
    # Read backwards, the row too many is the first.
    rows = rows[-limit:] if wanted.before is not None else rows[:limit]
    listed = page(rows, limit)
    return Page([entry(row) for row in rows], listed.first_id, listed.last_id, more)


def few(query: Query, name: str) -> list[str] | None:
    values = query.several(name)
    if values is not None and len(values) > SEVERAL:
        raise InvalidValue(f"'{name}' has more than {SEVERAL} values.", param=name)
    return values


def bound(query: Query, closed: str, strict: str) -> int | None:
    """The one of two bounds that is given; `gt` and `lte` count a second further."""
    here = query.number(f"effective_at[{closed}]")
    there = query.number(f"effective_at[{strict}]")
    return here if there is None else there + 1


def entry(row: audit.Entry) -> dict[str, object]:
    key = {"id": row.actor_key}
    shown: dict[str, object] = {
        "id": row.id,
        "object": "organization.audit_log",
        "type": row.action,
        "effective_at": row.at,
        "actor": {"type": "session" if row.session else "api_key", "api_key": key},
        row.action: {"id": row.target, **details(row)},
        "target": row.target,
        "before": row.before,
        "after": row.after,
        "request_id": row.request_id,
    }
    if row.project is not None:
        shown["project"] = {"id": row.project, "name": row.project_name or ""}
    return shown


def details(row: audit.Entry) -> dict[str, object]:
    """What OpenAI's log tells of it: the new object, or the fields that changed."""
    if row.after is None:
        return {}
    if row.before is None:
        return {"data": row.after}
    changed = {name: value for name, value in row.after.items() if row.before.get(name) != value}
    return {"changes_requested": changed}
