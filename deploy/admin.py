"""A client of the running hub's administrators' API, and how its answers are printed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec

from deploy import key, welcome
from deploy.stream import ApiError, Client
from shared.settings import Settings

Fields = dict[str, Any]
PAGE = 100


class Admin:
    """Every method raises ApiError."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def send(self, method: str, path: str, body: Fields | None = None) -> Fields:
        try:
            return msgspec.json.decode(self._client.send(method, path, body), type=Fields)
        except msgspec.DecodeError as error:
            raise ApiError(f"{self._client.base_url} answers with no JSON: {error}") from error

    def listed(self, path: str, **query: str | None) -> Iterator[Fields]:
        """All pages."""
        asked = "".join(f"&{name}={quote(value)}" for name, value in query.items() if value)
        after = ""
        while True:
            page = self.send("GET", f"{path}?limit={PAGE}{asked}{after}")
            yield from page["data"]
            if not page["has_more"]:
                return
            after = f"&after={quote(page['last_id'])}"

    def named(self, path: str, which: str, **query: str | None) -> Fields:
        """The one with this id, else the only one with this name."""
        found = []
        for one in self.listed(path, **query):
            if one["id"] == which:
                return one
            if one["name"] == which:
                found.append(one)
        noun = path.strip("/").removesuffix("s")
        if not found:
            raise ApiError(f"there is no {noun} {which!r}")
        if len(found) > 1:
            ids = ", ".join(one["id"] for one in found)
            raise ApiError(f"{len(found)} {noun}s are called {which!r}; use an id: {ids}")
        return found[0]


def run(
    settings: Settings,
    options: argparse.Namespace,
    act: Callable[[Admin], None],
    below: str = "/admin",
) -> int:
    """Exit status 1 when the hub refuses or does not answer; paths are `below` /api/v1."""
    return reach(settings, options, lambda client: act(Admin(client)), below)


def reach(
    settings: Settings, options: argparse.Namespace, act: Callable[[Client], None], below: str
) -> int:
    """The same with the client itself."""
    ours = options.base_url is None
    secret = options.admin
    if secret is None and ours and (found := key.find(settings)) is not None:
        secret = found.value
    base = (options.base_url or welcome.base_url(settings)).rstrip("/").removesuffix("/v1")
    try:
        act(Client(f"{base}/api/v1{below}", secret))
    except ApiError as error:
        hint = " Is `aihub up` running?" if ours and "does not answer" in str(error) else ""
        print(f"aihub {options.command}: {error}.{hint}", file=sys.stderr)
        return 1
    return 0


def limits(options: argparse.Namespace) -> Fields:
    """What the three options of limits say; None: no limit."""
    return {
        "requests_per_minute": options.rpm,
        "tokens_per_minute": options.tpm,
        "concurrent": options.concurrent,
    }


def limited(limits: Mapping[str, int | None]) -> str:
    """In a few words."""
    units = {
        "requests_per_minute": "requests/min",
        "tokens_per_minute": "tokens/min",
        "concurrent": "at once",
    }
    words = [f"{limits[name]} {unit}" for name, unit in units.items() if limits[name] is not None]
    return ", ".join(words) or "-"


def when(seconds: int | None) -> str:
    if seconds is None:
        return "-"
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}Z"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
