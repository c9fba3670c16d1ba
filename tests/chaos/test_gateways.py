"""Several gateway processes, and one that has served for long."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import redis

from tests.bench.cpu import resident
from tests.chaos.conftest import Stream
from tests.chaos.test_streams import assert_every_token
from tests.hub import Hub, alive, command_line, running_hub
from tests.native import Load, Upstream

Note = Callable[[str], None]
REQUESTS = 10_000
ROUNDS = 4
MB = 1_000_000


def serving(hub: Hub) -> list[int]:
    """The gateway processes that answer; their master comes first among all."""
    return [pid for pid in hub.pids("gateway")[1:] if "gateway.main" in command_line(pid)]


@pytest.fixture(scope="module")
def pair(upstream: Upstream) -> Iterator[Hub]:
    toml = f"""
gateways = 2
queue_limit = 4096
log_level = "warning"
[models.counting]
engine = "openai"
url = "unix:{upstream.path}"
parallel = 64
"""
    with running_hub(toml) as hub:
        yield hub


def streams_of(hub: Hub) -> dict[int, int]:
    """Open connections of clients, by gateway process."""
    found: dict[int, int] = {}
    port = f":{hub.port:04X}"
    inodes = {
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[1].endswith(port) and line.split()[3] == "01"
    }
    for pid in serving(hub):
        held = 0
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                name = str(fd.readlink())
            except FileNotFoundError:
                continue
            held += name.startswith("socket:[") and name[8:-1] in inodes
        found[pid] = held
    return found


def gateways(hub: Hub) -> set[bytes]:
    """Those that read their replies, dead ones included until that is noticed."""
    with redis.Redis(unix_socket_path=str(hub.home / "run" / "valkey.sock")) as client:
        return set(client.scan_iter("aihub:reply:*"))


def test_one_of_two_gateways_is_killed(
    pair: Hub, programs: Path, upstream: Upstream, note: Note
) -> None:
    """Its streams end; those of the other do not notice; a new process takes its place."""
    load = Stream(programs, pair)
    assert len(serving(pair)) == 2
    flags = ("--connections", "1", "--requests", "1", "--tokens", "150", "--timeout", "60")
    loads: list[Load] = [load(*flags) for _ in range(16)]
    deadline = time.monotonic() + 20
    while upstream.stats()["open_streams"] < 16:
        if time.monotonic() > deadline:
            pytest.fail(f"not all run at once: {[one.result()['status'] for one in loads]}")
        time.sleep(0.01)
    held = streams_of(pair)
    assert sum(held.values()) == 16
    victim = min(held, key=lambda pid: held[pid] or 99)
    before = gateways(pair)
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    while not gateways(pair) - before:
        assert time.monotonic() - killed < 15
        time.sleep(0.02)
    back = time.monotonic() - killed
    results = [one.result() for one in loads]
    whole = [result for result in results if result["ok"]]
    assert len(whole) == 16 - held[victim]
    for result in whole:
        assert_every_token(result, 1)
    assert not alive(victim)
    assert len(serving(pair)) == 2
    note(f"{held[victim]} of 16 streams ended, the others whole; a process more after {back:.1f} s")


def test_memory_stays_flat(pair: Hub, programs: Path, note: Note) -> None:
    """A leak grows in every round; connections spread anew each time, and so do their buffers."""
    load = Stream(programs, pair)
    pair.wait_ready()
    sizes = []
    for _ in range(ROUNDS):
        began = time.monotonic()
        flags = ("--stream", "0", "--connections", "64", "--tokens", "1")
        result = load(*flags, "--requests", str(REQUESTS)).result()
        assert result["ok"] == REQUESTS, result
        seconds = time.monotonic() - began
        sizes.append(sum(resident([pid]) for pid in serving(pair)) / MB)
    grown = [after - before for before, after in pairwise(sizes)]
    note(
        f"two gateways {sizes[0]:.1f} MB after {REQUESTS} requests,"
        f" {', '.join(f'{more:+.2f}' for more in grown)} MB after {REQUESTS} more each"
        f" ({REQUESTS / seconds:.0f} requests/s)"
    )
    assert sizes[0] <= 2 * 150
    assert min(grown) <= 1


def test_nothing_is_left_in_redis(pair: Hub) -> None:
    deadline = time.monotonic() + 20
    with redis.Redis(unix_socket_path=str(pair.home / "run" / "valkey.sock")) as client:
        while left := [*client.scan_iter("arq:*"), *client.scan_iter("aihub:queue:counting")]:
            assert time.monotonic() < deadline, left
            time.sleep(0.1)
    assert len(gateways(pair)) == 2
