"""GET /api/v1/usage: what was used, by whom, for what, when, as JSON or as a table."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from gateway.exchange import JSON, Exchange
from gateway.routes.admin.desk import Call, Desk
from gateway.routes.admin.query import LARGEST_NUMBER, Query
from shared.errors import InvalidType, InvalidValue, PermissionDenied
from shared.store import usage_report
from shared.store.usage_report import DIMENSIONS, Asked, Used, Width

CSV = (b"content-type", b"text/csv; charset=utf-8")
WIDTHS: tuple[Width, ...] = ("hour", "day", "month")
GROUPS = (*(name for name in DIMENSIONS if name != "user"), "user", *WIDTHS)
FILTERS = ("project", "user", "key", "model", "adapter", "endpoint", "class")
NAMES = ("from", "to", "group_by", "format", "limit", "page", *FILTERS)
USUAL_ROWS = 1_000
MOST_ROWS = 10_000
MOST_VALUES = 100
FARTHEST = 100_000_000

encode = msgspec.json.Encoder().encode


class Report(msgspec.Struct, frozen=True):
    """`from` and `to` are epoch seconds; `next_page` is the `page` to ask for, if there is more."""

    since: int = msgspec.field(name="from")
    until: int = msgspec.field(name="to")
    group_by: list[str]
    data: list[dict[str, object]]
    has_more: bool
    next_page: str | None
    object: Literal["usage"] = "usage"


class UsageRoute:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def __call__(self, exchange: Exchange) -> None:
        query = Query(exchange.query, NAMES)
        form = query.one("format") or "json"
        if form not in ("json", "csv"):
            raise InvalidValue("Invalid value for 'format': json or csv.", param="format")
        groups = grouping(query)
        asked = read(query, groups, exchange)

        async def find(call: Call) -> list[Used]:
            return await usage_report.report(call.connection, asked)

        found: list[Used] = await self._desk.find(exchange, find)
        limit = asked.limit - 1
        rows = [shown(row, groups) for row in found[:limit]]
        more = str(asked.offset + limit) if len(found) > limit else None
        if form == "csv":
            extra = [] if more is None else [(b"x-aihub-next-page", more.encode())]
            await exchange.respond(200, table(rows, groups), CSV, *extra)
            return
        report = Report(
            int(asked.since.timestamp()),
            int(asked.until.timestamp()),
            groups,
            rows,
            more is not None,
            more,
        )
        await exchange.respond(200, encode(report), JSON)


def grouping(query: Query) -> list[str]:
    """Of one `group_by` or several, with commas between names or without."""
    given = ",".join(query.several("group_by") or []).split(",")
    names = [name.strip() for name in given if name.strip()]
    for name in names:
        if name not in GROUPS:
            raise InvalidValue(
                f"Invalid value for 'group_by': {name!r}. Allowed are {', '.join(GROUPS)}.",
                param="group_by",
            )
    if sum(name in WIDTHS for name in names) > 1:
        raise InvalidValue("'group_by' has more than one of hour, day, month.", param="group_by")
    return list(dict.fromkeys(names))


def read(query: Query, groups: Sequence[str], exchange: Exchange) -> Asked:
    """One row more than the page, which tells whether there is another."""
    now = datetime.fromtimestamp(time.time(), UTC)
    until = moment(query, "to") or now
    last = until - timedelta(microseconds=1)
    since = moment(query, "from") or last.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    if since >= until:
        raise InvalidValue("'from' must be before 'to'.", param="from")
    wanted = {name: few(query, name) for name in FILTERS}
    if not exchange.account.may("admin.read"):
        own = [exchange.account.key]
        if wanted["key"] not in (None, own):
            raise PermissionDenied("This key sees its own usage only.", param="key")
        wanted["key"] = own
    widths = [name for name in WIDTHS if name in groups]
    return Asked(
        since=since,
        until=until,
        width=widths[0] if widths else None,
        by=frozenset(groups),
        projects=wanted["project"],
        users=wanted["user"],
        keys=wanted["key"],
        models=wanted["model"],
        adapters=wanted["adapter"],
        endpoints=wanted["endpoint"],
        classes=wanted["class"],
        limit=(query.number("limit", 1, MOST_ROWS) or USUAL_ROWS) + 1,
        offset=query.number("page", 0, FARTHEST) or 0,
    )


def few(query: Query, name: str) -> list[str] | None:
    values = query.several(name)
    if values is not None and len(values) > MOST_VALUES:
        raise InvalidValue(f"'{name}' has more than {MOST_VALUES} values.", param=name)
    return values


def moment(query: Query, name: str) -> datetime | None:
    """Epoch seconds, or a date with or without a time, which is UTC's unless it says otherwise."""
    text = query.one(name)
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        seconds = query.number(name, 0, LARGEST_NUMBER)
        return datetime.fromtimestamp(seconds or 0, UTC)
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidType(
            f"Invalid type for '{name}': expected epoch seconds or a date such as 2026-11-23"
            " or 2026-11-23T12:00:00Z.",
            param=name,
        ) from None
    if given.tzinfo is None:
        given = given.replace(tzinfo=UTC)
    try:
        if 0 <= given.timestamp() <= LARGEST_NUMBER:
            return given.astimezone(UTC)
    except OverflowError:
        pass
    raise InvalidValue(f"Invalid value for '{name}': from 1970 to 2099.", param=name)


def shown(row: Used, groups: Sequence[str]) -> dict[str, object]:
    """What it is grouped by, and the sums."""
    every: dict[str, object] = msgspec.to_builtins(row)
    beginning = "start" if any(name in WIDTHS for name in groups) else None
    head = {name: every[name] for name in ("start", *DIMENSIONS) if name in (beginning, *groups)}
    return head | {name: value for name, value in every.items() if name not in HEAD}


HEAD = ("start", *DIMENSIONS)
SUMS = tuple(
    name
    for name in (field.encode_name for field in msgspec.structs.fields(Used))
    if name not in HEAD
)


def table(rows: Sequence[dict[str, object]], groups: Sequence[str]) -> bytes:
    """With a line of names; times as dates."""
    timed = ("start",) if any(name in WIDTHS for name in groups) else ()
    names = [*timed, *(name for name in DIMENSIONS if name in groups), *SUMS]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([date(row[name]) if name == "start" else row[name] for name in names])
    return text.getvalue().encode()


def date(seconds: object) -> str:
    assert isinstance(seconds, int)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
