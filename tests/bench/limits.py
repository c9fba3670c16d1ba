"""What limits and budgets cost a request: a key under all of them beside one under none.

Both ask the same hub in turns, in rounds, and the middle round counts: the ratio is the figure.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from statistics import median
from typing import Any

from tests.bench.figures import table
from tests.contract.client import Client
from tests.hub import Hub

LIMITS = {"requests_per_minute": 10**9, "tokens_per_minute": 10**9, "concurrent": 10**6}
ROUNDS = 5
Run = Callable[[str], tuple[float, float]]
"""Puts one load on the hub with a key: median milliseconds, CPU microseconds of each request."""


def limited_key(hub: Hub, models: tuple[str, ...]) -> str:
    """A new key with every limit and budget there is, none of them ever reached, and prices."""
    client = Client(hub.base_url, hub.key)

    def put(method: str, path: str, **fields: Any) -> Any:
        reply = client.send(method, f"//api/v1/admin{path}", json.dumps(fields).encode())
        assert reply.status == 200, reply.body
        return reply.json

    for model in models:
        put("PUT", f"/prices/{model}", input=1000, cached=100, output=2000)
    project = put("POST", "/projects", name="bench-limits", limits=LIMITS)
    key = put("POST", "/keys", name="bench-limits", project=project["id"], limits=LIMITS)
    for owner, id_ in (("key", key["id"]), ("project", project["id"])):
        put("POST", "/budgets", owner=owner, owner_id=id_, period="month", tokens=10**15)
        put("POST", "/budgets", owner=owner, owner_id=id_, period="day", micros=10**15)
    value: str = key["value"]
    return value


def compared(loads: dict[str, Run], free: str, limited: str, rounds: int = ROUNDS) -> str:
    """Each load with both keys in turns."""
    rows: list[list[object]] = []
    for load, run in loads.items():
        seen: dict[str, list[tuple[float, float]]] = {free: [], limited: []}
        for turn in range(rounds):
            for key in (free, limited) if turn % 2 else (limited, free):
                seen[key].append(run(key))
        times, cpu = zip(*(middle(seen[key]) for key in (free, limited)), strict=True)
        rows.append([load, *times, times[1] / times[0], *cpu, cpu[1] / cpu[0]])
    head = ["load", "p50 ms, free", "limited", "ratio", "CPU µs each, free", "limited", "ratio"]
    return table("A key with limits and four budgets beside one without", head, rows)


def middle(seen: list[tuple[float, float]]) -> tuple[float, float]:
    times, cpu = zip(*seen, strict=True)
    return median(times), median(cpu)
