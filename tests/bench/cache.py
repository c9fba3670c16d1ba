"""What the response cache costs and saves: `python -m tests.bench.cache [--requests N]`.

The key of a request in this process, then requests one after another to a whole hub with one
gateway, in front of a fake engine that writes 50 tokens as fast as it can.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from gateway.ask import Ask
from gateway.cache.responses import Responses
from gateway.cache.terms import read
from gateway.worst import Worst
from shared.catalog import Entry
from shared.settings import Model, Settings
from shared.wire.account import Account
from tests import native
from tests.bench.figures import percentile, table
from tests.hub import Hub, running_hub

TOML = """
[models.counting]
engine = "openai"
url = "unix:{path}"
parallel = 16
"""
ACCOUNT = Account("key", "proj", "org", "bench", ("inference",))
ENTRY = Entry("m", Model(engine="openai", url="http://h/v1"), "m")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=300, help="of each kind")
    given = parser.parse_args()
    print(key_cost())
    with tempfile.TemporaryDirectory(prefix="aihub-bench-") as folder, hub_in(Path(folder)) as hub:
        print(latencies(hub, given.requests))
    return 0


def body(about: str, **fields: Any) -> bytes:
    messages = [{"role": "user", "content": about}]
    return json.dumps(
        {"model": "counting", "messages": messages, "max_tokens": 50} | fields
    ).encode()


def key_cost() -> str:
    """Microseconds to say where an answer is kept, or that none is."""
    responses = Responses(Settings(redis_url="redis://localhost"), "bench")
    rows = []
    for size in (100, 1_000, 10_000, 100_000, 1_000_000):
        given = body("word " * (size // 5), temperature=0)
        asked = Ask("chat", ENTRY, given, "interactive", "fp_1", Worst(size), temperature=0.0)
        cost = micros(lambda asked=asked: responses.place(asked, ACCOUNT, "files"))
        sampled = asked._replace(temperature=0.7)
        none = micros(lambda asked=sampled: responses.wants(asked, ACCOUNT, read({})))
        rows.append((len(given), cost, none))
    head = ("bytes of the request", "its key, µs", "no key, as it is sampled, µs")
    return table("Where an answer is kept", head, rows)


def micros(call: Callable[[], object]) -> float:
    """The median of 200 calls."""
    taken = []
    for _ in range(200):
        began = perf_counter()
        call()
        taken.append((perf_counter() - began) * 1e6)
    return percentile(sorted(taken), 50)


@contextmanager
def hub_in(folder: Path) -> Iterator[Hub]:
    programs = native.build(folder)
    with (
        native.upstream(programs, folder / "s", "--pace-ms", "0") as upstream,
        running_hub(TOML.format(path=upstream.path), AIHUB_CACHE_BYTES="67108864") as hub,
    ):
        yield hub


class Caller:
    """One connection that is kept."""

    def __init__(self, hub: Hub) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=60)
        self._headers = {
            "Authorization": f"Bearer {hub.key}",
            "Content-Type": "application/json",
        }

    def ask(self, body: bytes, told: str | None, **headers: str) -> float:
        """Milliseconds to the last byte."""
        began = perf_counter()
        self._connection.request("POST", "/v1/chat/completions", body, {**self._headers, **headers})
        reply = self._connection.getresponse()
        reply.read()
        taken = (perf_counter() - began) * 1000
        assert (reply.status, reply.headers["x-aihub-cache"]) == (200, told), reply.headers
        return taken


def latencies(hub: Hub, count: int) -> str:
    caller = Caller(hub)
    kinds: dict[str, Callable[[int, bool], float]] = {
        "sampled, the cache has no part": lambda n, s: caller.ask(
            body(f"a {n} {s}", temperature=1, stream=s), None
        ),
        "miss: computed and kept": lambda n, s: caller.ask(
            body(f"b {n} {s}", temperature=0, stream=s), "miss"
        ),
        "hit": lambda n, s: caller.ask(body(f"b {n} {s}", temperature=0, stream=s), "hit"),
        "hit, kept from the other kind of reply": lambda n, s: caller.ask(
            body(f"b {n} {not s}", temperature=0, stream=s), "hit"
        ),
    }
    rows = []
    for kind, ask in kinds.items():
        whole = sorted(ask(number, False) for number in range(count))
        stream = sorted(ask(number, True) for number in range(count))
        cuts = [percentile(of, rank) for of in (whole, stream) for rank in (50, 99)]
        rows.append((kind, *cuts))
    head = ("ms to the last byte, one at a time", "whole p50", "p99", "stream p50", "p99")
    return table("A request of 50 tokens", head, rows)


if __name__ == "__main__":
    sys.exit(main())
