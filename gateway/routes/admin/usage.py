"""OpenAI's usage and costs, in buckets of time; and the months that the ledger keeps."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple

import msgspec

from gateway.routes.admin.desk import Call, Done, found
from gateway.routes.admin.query import Query
from shared.errors import InvalidValue, MissingParameter
from shared.store import usage, usage_report
from shared.store.audit import Change
from shared.store.usage_report import Asked, Used, Width
from shared.wire.admin import Deleted

CURRENCY = "usd"
"""Prices have none; OpenAI's clients expect one."""
MICROS = 1_000_000
"""Micro-units of one unit of money."""
MOST_RESULTS = 20_000
"""Groups of all buckets of a page."""
SEVERAL = 100
GENERATED = ["chat/completions", "completions", "responses", "messages"]
NEVER = (
    *("moderations", "images", "audio_speeches", "audio_transcriptions", "vector_stores"),
    *("code_interpreter_sessions", "file_search_calls", "web_search_calls"),
)
"""What the hub does not do, or not by itself; their buckets are empty."""
GROUPS = {
    "project_id": "project",
    "user_id": "user",
    "api_key_id": "key",
    "model": "model",
    "line_item": "model",
    "batch": "class",
    "service_tier": "class",
}
COMMON = ("start_time", "end_time", "bucket_width", "group_by", "limit", "page")
FILTERS = ("project_ids", "user_ids", "api_key_ids", "models")


class Buckets(NamedTuple):
    """How long one is, and how many a page has."""

    width: Width
    seconds: int
    usual: int
    most: int


WIDTHS = {
    "1m": Buckets("minute", 60, 60, 1440),
    "1h": Buckets("hour", 3600, 24, 168),
    "1d": Buckets("day", 86_400, 7, 31),
}
COSTS = {"1d": Buckets("day", 86_400, 7, 180)}


class Kind(NamedTuple):
    """One path: what of the ledger it tells, by what it groups, and how a result looks."""

    widths: Mapping[str, Buckets]
    groups: tuple[str, ...]
    filters: tuple[str, ...]
    endpoints: list[str] | None
    result: Callable[[Used, Sequence[str]], dict[str, object]]


class Page(msgspec.Struct, frozen=True):
    data: list[dict[str, object]]
    has_more: bool
    next_page: str | None
    object: str = "page"


class Month(msgspec.Struct, frozen=True):
    """Single requests of a month; what they sum up to stays when they go."""

    id: str
    bytes: int
    object: str = "usage_month"


def teller(kind: Kind) -> Callable[[Call], Awaitable[Page]]:
    async def tell(call: Call) -> Page:
        return await page(call, kind)

    return tell


async def page(call: Call, kind: Kind) -> Page:
    query = call.query(*COMMON, *kind.filters)
    buckets = choose(query, kind.widths)
    since = query.number("start_time")
    if since is None:
        raise MissingParameter("Missing required parameter: 'start_time'.", param="start_time")
    end = query.number("end_time") or int(time.time()) + 1
    if end <= since:
        raise InvalidValue("'end_time' must be after 'start_time'.", param="end_time")
    first = max(since, query.number("page") or 0)
    edges = cut(first, end, buckets, query.number("limit", 1, buckets.most) or buckets.usual)
    groups = grouping(query, kind.groups)
    results = await results_of(call, query, kind, groups, edges, buckets)
    data: list[dict[str, object]] = [
        {
            "object": "bucket",
            "start_time": start,
            "end_time": stop,
            "results": results.get(start - start % buckets.seconds, []),
        }
        for start, stop in edges
    ]
    more = bool(edges) and edges[-1][1] < end
    return Page(data, more, str(edges[-1][1]) if more else None)


async def results_of(
    call: Call,
    query: Query,
    kind: Kind,
    groups: Sequence[str],
    edges: Sequence[tuple[int, int]],
    buckets: Buckets,
) -> dict[int, list[dict[str, object]]]:
    """By the beginning of their bucket."""
    if not edges or kind.endpoints == []:
        return {}
    batch = query.flag("batch") if "batch" in kind.filters and query.one("batch") else None
    asked = Asked(
        since=datetime.fromtimestamp(edges[0][0], UTC),
        until=datetime.fromtimestamp(edges[-1][1], UTC),
        width=buckets.width,
        by=frozenset(GROUPS[name] for name in groups),
        projects=few(query, "project_ids"),
        users=few(query, "user_ids"),
        keys=few(query, "api_key_ids"),
        models=few(query, "models") or few(query, "line_items"),
        endpoints=kind.endpoints,
        classes=None if batch is None else ["batch"] if batch else ["interactive", "standard"],
        limit=MOST_RESULTS + 1,
    )
    rows = await usage_report.report(call.connection, asked)
    if len(rows) > MOST_RESULTS:
        raise InvalidValue(
            "There are too many results for one page: ask for fewer buckets.", param="limit"
        )
    results: dict[int, list[dict[str, object]]] = {}
    for row in rows:
        results.setdefault(row.start or 0, []).append(kind.result(row, groups))
    return results


def choose(query: Query, widths: Mapping[str, Buckets]) -> Buckets:
    name = query.one("bucket_width") or "1d"
    if name not in widths:
        raise InvalidValue(
            f"Invalid value for 'bucket_width': {', '.join(widths)}.", param="bucket_width"
        )
    return widths[name]


def cut(first: int, end: int, buckets: Buckets, count: int) -> list[tuple[int, int]]:
    """Buckets begin at whole minutes, hours or days, but for the first; the last one ends at
    `end`.
    """
    edges: list[tuple[int, int]] = []
    start = first
    while start < end and len(edges) < count:
        stop = min(end, start - start % buckets.seconds + buckets.seconds)
        edges.append((start, stop))
        start = stop
    return edges


def grouping(query: Query, allowed: Sequence[str]) -> list[str]:
    names = query.several("group_by") or []
    for name in names:
        if name not in allowed:
            raise InvalidValue(
                f"Invalid value for 'group_by': {name!r}. Allowed are {', '.join(allowed)}.",
                param="group_by",
            )
    return names


def few(query: Query, name: str) -> list[str] | None:
    values = query.several(name)
    if values is not None and len(values) > SEVERAL:
        raise InvalidValue(f"'{name}' has more than {SEVERAL} values.", param=name)
    return values


def who(row: Used, groups: Sequence[str]) -> dict[str, object]:
    """What a result is grouped by; null where it is not."""
    told: dict[str, object] = {
        "project_id": row.project,
        "user_id": row.user,
        "api_key_id": row.key,
        "model": row.model,
    }
    if "batch" in groups:
        told["batch"] = row.service == "batch"
    if "service_tier" in groups:
        told["service_tier"] = "flex" if row.service == "batch" else "default"
    return told


def generated(row: Used, groups: Sequence[str]) -> dict[str, object]:
    return {
        "object": "organization.usage.completions.result",
        "input_tokens": row.tokens_in,
        "output_tokens": row.tokens_out,
        "input_cached_tokens": row.tokens_cached,
        "input_audio_tokens": 0,
        "output_audio_tokens": 0,
        "num_model_requests": row.requests,
        "batch": None,
        "service_tier": None,
        **who(row, groups),
    }


def embedded(row: Used, groups: Sequence[str]) -> dict[str, object]:
    return {
        "object": "organization.usage.embeddings.result",
        "input_tokens": row.tokens_in,
        "num_model_requests": row.requests,
        **who(row, groups),
    }


def cost(row: Used, groups: Sequence[str]) -> dict[str, object]:
    """A line item is a model."""
    return {
        "object": "organization.costs.result",
        "amount": {"value": row.micros / MICROS, "currency": CURRENCY},
        "line_item": row.model if "line_item" in groups else None,
        "project_id": row.project,
        "user_id": row.user,
        "api_key_id": row.key,
    }


def nothing(_: Used, __: Sequence[str]) -> dict[str, object]:
    raise AssertionError("nobody can have used this")


KEYED = ("project_id", "user_id", "api_key_id", "model")
KINDS = {
    "/usage/completions": Kind(
        WIDTHS, (*KEYED, "batch", "service_tier"), (*FILTERS, "batch"), GENERATED, generated
    ),
    "/usage/embeddings": Kind(WIDTHS, KEYED, FILTERS, ["embeddings"], embedded),
    **{f"/usage/{name}": Kind(WIDTHS, KEYED, FILTERS, [], nothing) for name in NEVER},
    "/costs": Kind(
        COSTS,
        ("project_id", "user_id", "api_key_id", "line_item"),
        ("project_ids", "user_ids", "api_key_ids", "line_items"),
        None,
        cost,
    ),
}


async def months(call: Call) -> object:
    call.query()
    listed = [told(month) for month in await usage.months(call.connection)]
    return {"object": "list", "data": listed, "has_more": False}


async def drop_month(call: Call) -> Done:
    """Single requests of a month go for good; sums by the hour stay."""
    id_ = call.at("month")
    first = next((one for one in await usage.months(call.connection) if told(one).id == id_), None)
    month = found(first, "month", id_)
    if month.first >= usage.later(today(), 0):
        raise InvalidValue("Only a month that is over can be dropped.", param="month")
    await usage.drop_month(call.connection, month.first)
    change = Change("usage_month.deleted", id_, before=told(month))
    return Done(Deleted(id_, "usage_month.deleted"), [change], announced=False)


def told(month: usage.Month) -> Month:
    return Month(f"{month.first:%Y-%m}", month.bytes)


def today() -> date:
    return datetime.fromtimestamp(time.time(), UTC).date()
