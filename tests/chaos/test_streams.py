"""Streams go on, whatever dies under them: no token lost, none twice, nobody left waiting."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.conftest import QUEUE, Stream
from tests.hub import Hub, alive, descendants, running_hub
from tests.native import Upstream

Note = Callable[[str], None]
STREAMS = 8
EIGHT = ("--connections", "8", "--requests", "8", "--tokens", "150", "--timeout", "60")
"""Eight streams of three seconds."""


def in_the_middle(upstream: Upstream, streams: int) -> None:
    """Returns when so many streams are open and have sent some tokens each."""
    deadline = time.monotonic() + 30
    before = upstream.stats()["chunks"]
    while True:
        stats = upstream.stats()
        if stats["open_streams"] >= streams and stats["chunks"] > before + streams * 20:
            return
        assert time.monotonic() < deadline, stats
        time.sleep(0.02)


def assert_every_token(result: dict[str, Any], requests: int) -> None:
    assert result["ok"] == requests, result
    tokens = result["tokens"]
    wrong = {name: tokens[name] for name in ("lost", "duplicated", "disordered", "foreign")}
    assert not any(wrong.values()), wrong
    assert tokens["checked"]
    assert tokens["seen"] == requests * 150, tokens


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_worker_dies(
    sound: Hub, load: Stream, upstream: Upstream, note: Note, number: signal.Signals
) -> None:
    engines = sound.pids("engine")
    streams = load(*EIGHT)
    in_the_middle(upstream, STREAMS)
    sound.kill("worker", number)
    result = streams.result()
    assert_every_token(result, STREAMS)
    assert not any(alive(pid) for pid in engines)
    note(f"silence of at most {result['gap_ms']['max']:.0f} ms, then every token once")


def test_redis_restarts(sound: Hub, load: Stream, upstream: Upstream, note: Note) -> None:
    streams = load(*EIGHT)
    in_the_middle(upstream, STREAMS)
    sound.kill("valkey")
    late = load("--connections", "2", "--requests", "2", "--tokens", "150")
    result = streams.result()
    assert_every_token(result, STREAMS)
    assert_every_token(late.result(), 2)
    note(f"silence of at most {result['gap_ms']['max']:.0f} ms, requests made meanwhile answered")


def test_gateway_stops_gracefully(sound: Hub, load: Stream, upstream: Upstream, note: Note) -> None:
    streams = load(*EIGHT)
    in_the_middle(upstream, STREAMS)
    began = time.monotonic()
    sound.kill("gateway", signal.SIGTERM)
    result = streams.result()
    assert_every_token(result, STREAMS)
    seconds = sound.wait_ready()
    note(
        f"all open streams finished, a gateway answered again {time.monotonic() - began:.1f} s"
        f" after the signal ({seconds:.1f} s after the last token)"
    )


def test_gateway_is_killed(sound: Hub, load: Stream, upstream: Upstream, note: Note) -> None:
    """Its streams end at once for the client, and soon after for the engine."""
    since = upstream.stats()["monotonic_ns"]
    streams = load(*EIGHT[:-4], "--tokens", "3000", "--tag", "orphan")
    in_the_middle(upstream, STREAMS)
    killed = time.monotonic_ns()
    for pid in sound.pids("gateway"):
        sound.kill_pid(pid)
    result = streams.result()
    assert result["ok"] == 0
    assert result["failed"] == STREAMS
    deadline = time.monotonic() + 30
    while len(gone := upstream.aborts(since)) < STREAMS:
        assert time.monotonic() < deadline, gone
        time.sleep(0.05)
    note(f"engine freed {(max(gone.values()) - killed) / 1e9:.1f} s later")


def test_client_leaves(sound: Hub, load: Stream, upstream: Upstream, note: Note) -> None:
    since = upstream.stats()["monotonic_ns"]
    leaving = load(
        *("--connections", "8", "--requests", "40", "--tokens", "500"),
        *("--disconnect-after", "5", "--tag", "gone"),
    )
    result = leaving.result()
    assert result["disconnected"] == 40
    deadline = time.monotonic() + 10
    while len(gone := upstream.aborts(since)) < 40:
        assert time.monotonic() < deadline, gone
        time.sleep(0.02)
    late = sorted((gone[tag] - closed) / 1e6 for tag, closed in result["disconnects"])
    assert upstream.stats()["open_streams"] == 0
    note(f"engine freed after {late[20]:.1f} ms p50, {late[-1]:.1f} ms max")


def test_crowd(sound: Hub, load: Stream, note: Note) -> None:
    """200 clients on a queue of 64: who has a place is served, the others are told at once."""
    crowd = load("--connections", "200", "--requests", "200", "--tokens", "150")
    result = crowd.result()
    status = {int(code): count for code, count in result["status"].items()}
    served = status[200]
    assert status == {200: served, 429: 200 - served}
    assert served >= QUEUE
    assert result["ok"] == served
    assert not result["incomplete"] + result["timeouts"] + result["transport_errors"]
    assert not result["tokens"]["lost"] + result["tokens"]["duplicated"]
    note(f"{served} served in {result['wall_s']:.1f} s, {200 - served} refused with 429")


def test_nothing_is_left_of_a_killed_supervisor(upstream: Upstream, note: Note) -> None:
    with running_hub() as hub:
        everything = [hub.supervisor, *descendants(hub.supervisor)]
        assert len(everything) > 6
        seconds = hub.stop(signal.SIGKILL)
        assert not any(alive(pid) for pid in everything)
    note(f"all {len(everything)} processes gone after {seconds:.2f} s")
