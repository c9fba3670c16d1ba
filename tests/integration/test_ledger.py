"""The writer of the ledger, on a real database and Valkey: each event once, come what may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from gateway.writer import Writer, outlived
from shared import keys, usage_stream
from shared.clock import SystemClock
from shared.db import Connection
from shared.resp import Link
from shared.store import usage
from shared.store.usage import Month
from shared.wire.usage import UsageEvent, encode
from tests.integration.test_usage_stream import event

TODAY = datetime.now(UTC).date()


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Connection]:
    async with usage.connect(database_url) as connection:
        assert await usage.try_lock(connection)
        yield connection


@pytest.fixture
def writer(database_url: str, link: Link) -> Writer:
    return Writer(database_url, link, None, SystemClock())


async def one(connection: Connection, query: str) -> dict[str, object]:
    cursor = await connection.execute(query)  # type: ignore[call-overload]
    row = await cursor.fetchone()
    assert row is not None
    return dict(row)


async def count(connection: Connection, table: str = "usage_event") -> object:
    return (await one(connection, f"SELECT count(*) AS n FROM {table}"))["n"]


def at(day: date, name: str = "req_" + "0" * 32) -> UsageEvent:
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    return replace(event(), ts_ms=int(noon.timestamp() * 1000), request_id=name)


async def test_an_event_arrives_whole_and_in_the_sums_of_its_hour(
    ledger: Connection, writer: Writer, link: Link
) -> None:
    used = replace(
        event(),
        adapter="law@2",
        tokens_cached=5,
        queue_ms=4,
        load_ms=2,
        first_ms=9,
        gpu_ms=6,
        millijoules=70,
        micros=8,
        status=499,
        code="client_closed_request",
        cache="exact",
    )
    await usage_stream.record(link, [encode(used), encode(replace(used, request_id="req_other"))])
    assert await writer.batch(ledger) == 2
    row = await one(ledger, "SELECT * FROM usage_event WHERE request_id <> 'req_other'")
    came = row.pop("ts")
    assert isinstance(came, datetime)
    row |= {"ts_ms": round(came.timestamp() * 1000), "service": row.pop("class")}
    assert row == {name: getattr(used, name) for name in used.__struct_fields__}
    sums = await one(ledger, "SELECT * FROM usage_hourly")
    told = {name: sums[name] for name in ("requests", "failures", "exact_hits", "tokens_in")}
    assert told == {"requests": 2, "failures": 2, "exact_hits": 2, "tokens_in": 14}
    assert (sums["adapter"], sums["class"], sums["micros"]) == ("law@2", "interactive", 16)
    assert await link.call("XLEN", keys.USAGE) == 0


async def test_a_batch_that_was_written_and_not_removed_is_not_written_again(
    ledger: Connection, writer: Writer, link: Link
) -> None:
    events = [event() for _ in range(50)]
    await usage_stream.record(link, [encode(used) for used in [*events, *events[:10]]])
    assert await usage.write(ledger, events[:30]) == 30
    assert await writer.batch(ledger) == 60
    assert (await count(ledger), writer.written) == (50, 20)
    sums = await one(ledger, "SELECT sum(requests) AS r, sum(tokens_in) AS t FROM usage_hourly")
    assert sums == {"r": 50, "t": 350}


async def test_what_the_tables_do_not_take_is_told_and_holds_nothing_up(
    ledger: Connection, writer: Writer, link: Link
) -> None:
    events = [event() for _ in range(9)]
    bad = replace(events[4], code="a\x00b")
    data = [encode(used) for used in [*events[:4], bad, *events[5:]]]
    await usage_stream.record(link, [*data[:2], b"no event", *data[2:]])
    with capture_logs() as said:
        assert await writer.batch(ledger) == 10
    assert await count(ledger) == 8
    assert writer.unwritable == 2
    assert [line["log_level"] for line in said] == ["error", "error"]
    assert bad.request_id in str(said[1])
    assert await link.call("XLEN", keys.USAGE) == 0


async def test_there_is_one_writer_until_it_goes(database_url: str, ledger: Connection) -> None:
    async with usage.connect(database_url) as other:
        assert not await usage.try_lock(other)
        await ledger.close()
        async with asyncio.timeout(10):
            while not await usage.try_lock(other):
                pass


async def test_a_writer_that_stands_still_loses_the_lock(
    database_url: str, ledger: Connection
) -> None:
    await ledger.execute("SET idle_session_timeout = '200ms'")
    async with usage.connect(database_url) as other, asyncio.timeout(20):
        while not await usage.try_lock(other):
            pass
    with pytest.raises(psycopg.OperationalError):
        await usage.touch(ledger)


async def test_months_are_made_ahead_and_rows_astray_go_where_they_belong(
    ledger: Connection,
) -> None:
    days = [usage.later(TODAY, months) for months in (-3, 0, 1)]
    events = [at(day, f"req_{number}") for number, day in enumerate(days)]
    assert await usage.write(ledger, events) == 3
    assert await count(ledger, "usage_event_default") == 3
    made = await usage.make_months(ledger, TODAY)
    assert made == [days[0], days[1], days[2], usage.later(TODAY, 2)]
    assert await count(ledger, "usage_event_default") == 0
    assert await count(ledger, f"usage_event_{days[0]:%Y_%m}") == 1
    assert await usage.make_months(ledger, TODAY) == []
    assert await usage.write(ledger, events) == 0


async def test_a_month_far_ahead_stays_astray(ledger: Connection) -> None:
    await usage.write(ledger, [at(usage.later(TODAY, 30))])
    assert len(await usage.make_months(ledger, TODAY)) == usage.AHEAD + 1
    assert await count(ledger, "usage_event_default") == 1


async def test_lines_are_written_while_months_cannot_be_made(
    database_url: str, ledger: Connection, writer: Writer, link: Link
) -> None:
    await ledger.execute("SET lock_timeout = '100ms'")
    async with usage.connect(database_url) as other, other.transaction():
        await other.execute("LOCK TABLE ONLY usage_event IN SHARE UPDATE EXCLUSIVE MODE")
        with capture_logs() as said:
            await writer.tidy(ledger)
        assert [line["event"] for line in said] == ["months are not tidied"]
        await usage_stream.record(link, [encode(event())])
        assert await writer.batch(ledger) == 1
    await writer.tidy(ledger)
    assert await count(ledger, "usage_event_default") == 0
    assert len(await usage.months(ledger)) == usage.AHEAD + 1


async def test_old_months_go_when_the_settings_say_so(
    database_url: str, ledger: Connection, link: Link
) -> None:
    old = [usage.later(TODAY, -months) for months in (1, 2, 3)]
    await usage.write(ledger, [at(day, f"req_{number}") for number, day in enumerate(old)])
    writer = Writer(database_url, link, 2, SystemClock())
    await writer.tidy(ledger)
    kept = [month.first for month in await usage.months(ledger)]
    assert kept == [usage.later(TODAY, months) for months in (-2, -1, 0, 1, 2)]
    assert await count(ledger) == 2


async def test_dropping_a_month_frees_its_bytes(ledger: Connection) -> None:
    old = usage.later(TODAY, -1)
    await usage.write(ledger, [at(TODAY)])
    await usage.write(ledger, [at(old, f"req_{number:032}") for number in range(5_000)])
    await usage.make_months(ledger, TODAY)
    size = "SELECT pg_database_size(current_database()) AS bytes"
    before = (await one(ledger, size))["bytes"]
    freed = await usage.drop_month(ledger, old)
    after = (await one(ledger, size))["bytes"]
    assert freed is not None
    assert freed > 500_000
    assert isinstance(before, int)
    assert isinstance(after, int)
    assert before - after >= freed * 0.9
    assert await count(ledger) == 1
    assert (await one(ledger, "SELECT sum(requests) AS n FROM usage_hourly"))["n"] == 5_001
    assert await usage.drop_month(ledger, old) is None


@pytest.mark.parametrize(
    ("keep", "gone"), [(0, [-13, -2, -1]), (1, [-13, -2]), (12, [-13]), (13, [])]
)
def test_months_outlive_their_time(keep: int, gone: list[int]) -> None:
    months = [Month(usage.later(TODAY, months), 0) for months in (-13, -2, -1, 0, 1)]
    assert outlived(months, TODAY, keep) == [usage.later(TODAY, months) for months in gone]


def test_months_are_counted_over_the_turn_of_the_year() -> None:
    assert usage.later(date(2026, 11, 23), 2) == date(2027, 1, 1)
    assert usage.later(date(2026, 1, 31), -1) == date(2025, 12, 1)
    assert usage.later(date(2026, 11, 23) + timedelta(days=0), 0) == date(2026, 11, 1)
