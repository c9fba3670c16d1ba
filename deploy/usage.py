"""`aihub usage`: what was used, what one request used, and the months that are kept."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import urlencode

import msgspec

from deploy.admin import Admin, Fields, reach, table
from deploy.budgets import EVERYTHING, money
from deploy.stream import ApiError, Client
from shared.settings import Settings
from shared.size import spell_size

DIMENSIONS = ("project", "user", "key", "model", "adapter", "endpoint", "class")
TIMES = {"hour": "%Y-%m-%d %H:%MZ", "day": "%Y-%m-%d", "month": "%Y-%m"}
SUMS = ("requests", "failures", "tokens_in", "tokens_cached", "tokens_out", "gpu_ms", "micros")
HEAD = ("requests", "failed", "tokens in", "cached", "out", "GPU s", "money")
MOST_ROWS = 10_000


def main(settings: Settings, options: argparse.Namespace) -> int:
    acts = {"report": report, "receipt": receipt, "months": months, "drop": drop}
    return reach(settings, options, lambda client: acts[options.what](client, options), "")


def report(client: Client, options: argparse.Namespace) -> None:
    if options.csv:
        for number, page in enumerate(tables(client, options)):
            written = page.splitlines(keepends=True)
            sys.stdout.writelines(written if number == 0 else written[1:])
        return
    admin = Admin(client)
    rows: list[Fields] = []
    page = "0"
    while page:
        query = asked(options, format="json", page=page)
        answer = admin.send("GET", f"/usage?{query}")
        rows += answer["data"]
        page = answer["next_page"]
    groups = [name for name in DIMENSIONS if name in options.by]
    width = next((name for name in TIMES if name in options.by), None)
    names = named(admin) if {"project", "key"} & set(groups) else {}
    head = (*([width] if width else []), *groups, *HEAD)
    lines = [line(row, groups, width, names) for row in rows]
    lead = len(head) - len(HEAD)
    if lead:
        whole = {name: sum(row[name] for row in rows) for name in SUMS}
        lines.append(("all", *[""] * (lead - 1), *figures(whole)))
    table(head, lines)


def tables(client: Client, options: argparse.Namespace) -> Iterator[str]:
    """Pages until one is not full."""
    offset = 0
    while True:
        query = asked(options, format="csv", page=str(offset))
        text = client.send("GET", f"/usage?{query}").decode()
        yield text
        count = text.count("\n") - 1
        offset += count
        if count < MOST_ROWS:
            return


def asked(options: argparse.Namespace, **more: str) -> str:
    """The query string."""
    given = [("group_by", ",".join(options.by))] if options.by else []
    given += [("from", options.since)] if options.since else []
    given += [("to", options.until)] if options.until else []
    for name in ("project", "key", "model"):
        given += [(name, value) for value in getattr(options, f"of_{name}") or ()]
    return urlencode([*given, ("limit", str(MOST_ROWS)), *more.items()])


def named(admin: Admin) -> Mapping[str, str]:
    """Names of projects and keys by id, as far as this key may see them."""
    try:
        return {
            one["id"]: one["name"]
            for path, every in EVERYTHING.items()
            for one in admin.listed(f"/admin{path}", **{every: "true"})
        }
    except ApiError:
        return {}


def line(
    row: Fields, groups: Sequence[str], width: str | None, names: Mapping[str, str]
) -> tuple[str, ...]:
    begun = [] if width is None else [f"{datetime.fromtimestamp(row['start'], UTC):{TIMES[width]}}"]
    shown = [names.get(row[name], row[name]) or "-" for name in groups]
    return (*begun, *shown, *figures(row))


def figures(row: Mapping[str, int]) -> tuple[str, ...]:
    counted = [str(row[name]) for name in SUMS[:5]]
    return (*counted, f"{row['gpu_ms'] / 1000:.1f}", money(row["micros"]))


def receipt(client: Client, options: argparse.Namespace) -> None:
    if options.which is None:
        raise ApiError("say which request: its id, or that of its answer")
    found = Admin(client).send("GET", f"/requests/{options.which}")
    table(("", ""), [(name, shown(value)) for name, value in found.items() if name != "object"])


def shown(value: object) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def months(client: Client, _: argparse.Namespace) -> None:
    found = Admin(client).send("GET", "/admin/usage/months")["data"]
    table(("month", "takes"), [(one["id"], spell_size(one["bytes"])) for one in found])


def drop(client: Client, options: argparse.Namespace) -> None:
    if options.which is None:
        raise ApiError("say which month, such as 2026-03")
    Admin(client).send("DELETE", f"/admin/usage/months/{options.which}")
    print(f"the single requests of {options.which} are gone; its sums by the hour stay")
