"""100,000 usage events on their way while who writes them, and the database, are killed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from threading import Thread

import psycopg
import pytest
import redis

from shared import ids, keys, usage_stream
from shared.resp import Link
from shared.wire.usage import UsageEvent, encode
from tests.bench import usage
from tests.hub import Hub, running_hub
from tests.native import Upstream

EVENTS = 100_000
ROUNDS = 5
LEAST_RATE = 3_000
MOST_MICROSECONDS = 30
WITHIN = 60.0

Note = Callable[[str], None]


@pytest.fixture(scope="module")
def pair(upstream: Upstream) -> Iterator[Hub]:
    """Two gateways, which compete for the ledger."""
    toml = f"""
gateways = 2
log_level = "warning"
[models.counting]
engine = "openai"
url = "unix:{upstream.path}"
"""
    with running_hub(toml) as hub:
        yield hub


def event(number: int) -> UsageEvent:
    id_ = ids.new("req_")
    return UsageEvent(
        ts_ms=ids.wall_ms(id_),
        request_id=id_,
        project=f"proj_{number % 3}",
        key=f"key_{number % 100}",
        model="m",
        endpoint="chat/completions",
        service="interactive",
        tokens_in=number % 1_000,
        tokens_out=number % 100,
        queue_ms=1,
        first_ms=20,
        total_ms=100,
        gpu_ms=40,
        micros=number % 10,
        status=200,
        streamed=True,
    )


class Books:
    """What the database has; it may be away."""

    def __init__(self, hub: Hub) -> None:
        self._url = f"postgresql://aihub@/aihub?host={hub.home / 'run'}"

    def ask(self, query: str) -> tuple[int, ...]:
        with psycopg.connect(self._url) as connection:
            row = connection.execute(query).fetchone()  # type: ignore[call-overload]
            assert row is not None
            return tuple(int(value) for value in row)

    def written(self) -> int:
        return self.ask("SELECT count(*) FROM usage_event")[0]

    def writer(self) -> int:
        """The process that holds the lock."""
        query = """
            SELECT replace(a.application_name, 'aihub ledger ', '')::int
            FROM pg_locks l JOIN pg_stat_activity a USING (pid)
            WHERE l.locktype = 'advisory' AND l.granted AND a.application_name LIKE 'aihub ledger%'
        """
        return self.ask(query)[0]

    def wait_written(self, least: int) -> None:
        deadline = time.monotonic() + WITHIN
        while time.monotonic() < deadline:
            with contextlib.suppress(psycopg.OperationalError):
                if self.written() >= least:
                    return
        raise AssertionError(f"fewer than {least} events after {WITHIN:g} s")

    def wait_writer(self) -> int:
        deadline = time.monotonic() + WITHIN
        while True:
            try:
                return self.writer()
            except (psycopg.OperationalError, AssertionError):
                assert time.monotonic() < deadline, "nobody writes"


async def send(hub: Hub, first: int, count: int) -> None:
    link = Link(f"unix://{hub.home / 'run' / 'valkey.sock'}", "test")
    await link.start()
    await link.wait_open(10)
    for start in range(first, first + count, 500):
        await usage_stream.record(link, [encode(event(n)) for n in range(start, start + 500)])
    await link.stop()


def waiting(hub: Hub) -> int:
    with redis.Redis(unix_socket_path=str(hub.home / "run" / "valkey.sock")) as client:
        assert client.get(keys.USAGE_LOST) is None
        return int(client.xlen(keys.USAGE))


def test_each_event_is_written_once(pair: Hub, note: Note) -> None:
    books = Books(pair)
    books.wait_writer()
    share = EVENTS // ROUNDS
    began = time.monotonic()
    left = []
    for number in range(ROUNDS):
        writer = books.wait_writer()
        sending = Thread(target=lambda first=number * share: asyncio.run(send(pair, first, share)))
        sending.start()
        books.wait_written(number * share + 1)
        if number % 2:
            pair.kill("postgres")
        else:
            pair.kill_pid(writer)
        left.append(waiting(pair))
        sending.join()
        books.wait_written((number + 1) * share)
    took = time.monotonic() - began
    found = books.ask(
        "SELECT count(*), count(DISTINCT request_id), sum(tokens_in), sum(tokens_out), sum(micros)"
        " FROM usage_event"
    )
    sums = books.ask(
        "SELECT sum(requests), sum(requests), sum(tokens_in), sum(tokens_out), sum(micros)"
        " FROM usage_hourly"
    )
    sent = [event(number) for number in range(EVENTS)]
    expected = (
        EVENTS,
        EVENTS,
        sum(one.tokens_in for one in sent),
        sum(one.tokens_out for one in sent),
        sum(one.micros for one in sent),
    )
    assert found == sums == expected
    deadline = time.monotonic() + WITHIN
    while waiting(pair):
        assert time.monotonic() < deadline
    pair.wait_ready()
    rate = EVENTS / took
    assert any(left), "nothing waited when it was killed"
    note(
        f"{found[0]:,} events in, {found[1]:,} out, writer killed {-(-ROUNDS // 2)} times,"
        f" PostgreSQL {ROUNDS // 2} times while {left} waited: {rate:,.0f} events/s all in all"
    )


def test_events_per_second_with_nothing_killed(pair: Hub, note: Note) -> None:
    books = Books(pair)
    books.wait_writer()
    before = books.written()
    began = time.monotonic()
    asyncio.run(send(pair, 0, EVENTS // 2))
    books.wait_written(before + EVENTS // 2)
    rate = (EVENTS // 2) / (time.monotonic() - began)
    note(f"{EVENTS // 2:,} events written while they are sent: {rate:,.0f} events/s")
    assert rate >= LEAST_RATE


def test_what_the_ledger_costs_a_request(note: Note) -> None:
    found = usage.measure()
    note(
        f"us a request: {found.gateway:.1f} in the gateway for one it refuses; for a job"
        f" {found.worker:.1f} in its worker and {found.write:.1f} in Redis"
    )
    assert found.gateway <= MOST_MICROSECONDS
    assert found.worker + found.write <= MOST_MICROSECONDS
