"""What was used, summed over any time by anything, and the line of one request."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from shared import ids
from shared.db import Connection, queries
from shared.store.window import rows
from shared.wire.usage import UsageEvent

SQL = queries("usage_report")
HOUR = timedelta(hours=1)
FIELDS = UsageEvent.__struct_fields__
Names = list[str] | None
Width = Literal["minute", "hour", "day", "month"]
By = Literal["project", "user", "key", "model", "adapter", "endpoint", "class"]
DIMENSIONS: tuple[By, ...] = ("project", "user", "key", "model", "adapter", "endpoint", "class")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """From `since` on, up to `until`, which is excluded. None: any, or all of the time together."""

    since: datetime
    until: datetime
    width: Width | None = None
    by: frozenset[str] = frozenset()
    projects: Names = None
    users: Names = None
    keys: Names = None
    models: Names = None
    adapters: Names = None
    endpoints: Names = None
    classes: Names = None
    limit: int
    offset: int = 0


class Used(msgspec.Struct, frozen=True, rename={"service": "class"}):
    """One group; what it is not grouped by is None, and so is the user of a key without one.

    `start` is the beginning of its time, in epoch seconds. The times are sums over its requests.
    """

    start: int | None
    project: str | None
    user: str | None
    key: str | None
    model: str | None
    adapter: str | None
    endpoint: str | None
    service: str | None
    requests: int
    failures: int
    exact_hits: int
    semantic_hits: int
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    queue_ms: int
    load_ms: int
    total_ms: int
    gpu_ms: int
    millijoules: int
    micros: int


async def report(connection: Connection, asked: Asked) -> list[Used]:
    """In order of time and names. Whole hours come from their sums, the rest from requests."""
    first, last = whole_hours(asked)
    values = {
        **msgspec.structs.asdict(asked),
        "first": first,
        "last": last,
        **{f"by_{name}": name in asked.by for name in DIMENSIONS},
    }
    del values["by"]
    return await rows(connection, SQL["report"], values, Used)


def whole_hours(asked: Asked) -> tuple[datetime, datetime]:
    """The first and the end of those in between; both `until` where there are none."""
    since, until = asked.since, asked.until
    first = floor(since) if floor(since) == since else floor(since) + HOUR
    last = floor(until)
    return (first, last) if first < last and asked.width != "minute" else (until, until)


def floor(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


async def find(connection: Connection, request_id: str) -> UsageEvent | None:
    """The line of one request, if it is still there."""
    values = {"ts_ms": ids.wall_ms(request_id), "request_id": request_id}
    found = await rows(connection, SQL["find_event"], values, dict[str, object])
    if not found:
        return None
    return msgspec.convert([found[0][name] for name in FIELDS], UsageEvent)
