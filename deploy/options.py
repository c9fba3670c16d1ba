"""The options of `aihub keys` and other commands with actions. Imports nothing of weight."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
DURATION = re.compile(r"^(\d{1,9})([smhdw])$")
PERIODS = ("day", "week", "month", "total")
SCOPES = ("inference", "training", "files", "admin", "admin.read")
PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
MICROS = 1_000_000

Actions = Callable[..., argparse.ArgumentParser]


def add_accounts(parsers: dict[str, argparse.ArgumentParser]) -> None:
    for name, describe in (
        ("keys", keys),
        ("projects", projects),
        ("budgets", budgets),
        ("cache", cache),
    ):
        parser = parsers[name]
        parser.add_argument("--base-url", help="another hub (default: this one)")
        parser.add_argument("--key", dest="admin", help="an admin key (default, here only: ours)")
        describe(parser.add_subparsers(dest="action", metavar="ACTION", required=True).add_parser)
    parser = parsers["files"]
    parser.add_argument("--base-url", help="another OpenAI-compatible server (default: this hub)")
    parser.add_argument("--key", dest="admin", help="its key (default, here only: ours)")
    files(parser.add_subparsers(dest="action", metavar="ACTION", required=True).add_parser)


def add_usage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base-url", help="another hub (default: this one)")
    parser.add_argument("--key", dest="admin", help="a key (default, here only: ours)")
    parser.add_argument(
        "what",
        nargs="?",
        choices=("report", "receipt", "months", "drop"),
        default="report",
        help="default: report",
    )
    parser.add_argument("which", nargs="?", help="receipt: id of a request; drop: 2026-03")
    parser.add_argument("--by", type=groups, default=(), help="e.g. project,model,day")
    parser.add_argument(
        "--from", dest="since", type=moment, help="2026-11-01, or 7d ago (default: this month)"
    )
    parser.add_argument("--to", dest="until", type=moment, help="default: now")
    for name in ("project", "key", "model"):
        parser.add_argument(f"--of-{name}", action="append", help=f"only of this {name}")
    parser.add_argument("--csv", action="store_true", help="as a table for other programs")


def groups(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def moment(text: str) -> str:
    """Epoch seconds of a time so long ago; anything else is the hub's to read."""
    return str(int(time.time()) - duration(text)) if DURATION.match(text) else text


def keys(action: Actions) -> None:
    listed = action("list", help="all keys that are not revoked")
    listed.add_argument("--project", help="only this project's")
    listed.add_argument("--all", action="store_true", help="revoked ones, too")
    made = action("create", help="make a key; it is printed this once")
    made.add_argument("name", help="what it is for")
    made.add_argument("--project", help="id or name (default: default)")
    made.add_argument("--scope", action="append", choices=SCOPES, help="default: inference")
    made.add_argument("--model", action="append", help="only these models (default: all)")
    made.add_argument("--expires", type=duration, help="ends after 30d, 12h, …")
    add_limits(made)
    rotated = action("rotate", help="a new secret for a key; the old one works on for a while")
    rotated.add_argument("which", help="id or name")
    rotated.add_argument("--grace", type=duration, default=86_400, help="default: 1d; at most 30d")
    action("revoke", help="end a key everywhere, now").add_argument("which", help="id or name")


def projects(action: Actions) -> None:
    action("list", help="all projects").add_argument(
        "--all", action="store_true", help="archived ones, too"
    )
    made = action("create", help="make a project")
    made.add_argument("name")
    add_limits(made)
    limited = action("limit", help="set a project's limits; those not given go")
    limited.add_argument("which", help="id or name")
    add_limits(limited)
    archived = action("archive", help="end a project and its keys; what it used stays known")
    archived.add_argument("which", help="id or name")


def budgets(action: Actions) -> None:
    listed = action("list", help="all budgets")
    add_owner(listed.add_mutually_exclusive_group())
    made = action("set", help="what a key or a project may use up in a period")
    add_owner(made.add_mutually_exclusive_group(required=True))
    made.add_argument("--period", choices=PERIODS, default="month", help="default: month; UTC")
    made.add_argument("--tokens", type=int)
    made.add_argument("--money", type=micros, metavar="AMOUNT", help="e.g. 12.50")
    action("remove", help="lift a budget").add_argument("which", help="its id")


def cache(action: Actions) -> None:
    action("show", help="how many answers are kept, and in which room")
    purged = action("purge", help="drop kept answers, all of them unless told otherwise")
    purged.add_argument("--project", help="only this project's; id or name")
    purged.add_argument("--model", help="only what this model and its adapters said")


def files(action: Actions) -> None:
    listed = action("list", help="the files of the key's project, the newest first")
    listed.add_argument("--purpose", choices=PURPOSES, help="only files for this")
    sent = action("upload", help="send a file; its id is printed")
    sent.add_argument("path")
    sent.add_argument("--purpose", choices=PURPOSES, default="fine-tune", help="default: fine-tune")
    sent.add_argument("--expires", type=duration, help="goes by itself after 1h to 30d")
    action("delete", help="delete a file").add_argument("which", help="its id")
    content = action("content", help="what is in a file, to standard output")
    content.add_argument("which", help="its id")
    content.add_argument("--output", metavar="PATH", help="into this file instead, whole or not")


def add_owner(group: argparse._MutuallyExclusiveGroup) -> None:
    group.add_argument("--of-key", metavar="KEY", help="id or name")
    group.add_argument("--of-project", metavar="PROJECT", help="id or name")


def add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rpm", type=int, help="requests per minute")
    parser.add_argument("--tpm", type=int, help="tokens per minute, prompt and answer")
    parser.add_argument("--concurrent", type=int, help="requests at once")


def duration(text: str) -> int:
    """Seconds of 30d, 12h, 15m, …"""
    match = DURATION.match(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 30d, 12h or 15m")
    return int(match[1]) * UNITS[match[2]]


def micros(text: str) -> int:
    """Micro-units of an amount of money; at most six decimals."""
    try:
        amount = Decimal(text) * MICROS
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount such as 12.50") from None
    if not amount.is_finite() or amount < 0 or amount != amount.to_integral_value():
        raise argparse.ArgumentTypeError(f"{text!r} is no amount of at most six decimals")
    return int(amount)
