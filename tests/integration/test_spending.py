"""What was spent is found out once and rightly, whatever happens; never taken for nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec
import psycopg
import pytest

from gateway.prices import Prices
from gateway.reservations import Reservation, Reservations
from gateway.spending import MARGIN, Spending
from shared import db, ending, holds, ids, keys, queue, usage_stream
from shared.clock import SystemClock
from shared.db import Pool
from shared.ending import Bill
from shared.errors import BudgetExhausted, Unavailable
from shared.queue import Placed
from shared.resp import Link
from shared.store import usage
from shared.wire.account import Account, Budget, Price
from shared.wire.hold import Hold
from shared.wire.hold import encode as packed
from shared.wire.task import Task
from shared.wire.usage import UsageEvent, encode

BUDGET = Budget("budget_1", "key", "key_1", "day", tokens=1000)
ACCOUNT = Account("key_1", "proj_1", "org", "k", (), budgets=(BUDGET,))
QUEUE = keys.queue("m")


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with db.connect(database_url) as pool:
        yield pool


def now() -> int:
    return int(time.time() * 1000)


def used(tokens: int, key: str = "key_1") -> UsageEvent:
    id_ = ids.new("req_")
    return UsageEvent(
        ts_ms=ids.wall_ms(id_),
        request_id=id_,
        project="proj_1",
        key=key,
        model="m",
        endpoint="chat/completions",
        service="interactive",
        tokens_out=tokens,
        total_ms=1,
        status=200,
        streamed=False,
    )


def held(tokens: int) -> Hold:
    hold = holds.of_account(ACCOUNT, now(), now() + 60_000, tokens, 0)
    assert hold is not None
    return hold


def task(name: str, hold: Hold) -> Task:
    return Task(
        name, "chat", "m", "g", 1, True, b"", "key_1", "batch", now() + 60_000, hold=packed(hold)
    )


async def put(link: Link, job: Task, attempt: int | None = None) -> Placed:
    return await queue.enqueue(link, job, None, 100, now(), attempt)


async def counted(link: Link) -> holds.Counted | None:
    return await holds.read_counter(link, BUDGET, now())


async def write(url: str, *events: UsageEvent) -> None:
    async with usage.connect(url) as connection:
        await usage.write(connection, events)


async def test_the_ledger_and_what_it_does_not_have_yet_count_once(
    link: Link, pool: Pool, database_url: str
) -> None:
    written, both, coming = used(1), used(10), used(100)
    await write(database_url, written, both, used(7, "key_2"))
    await usage_stream.record(link, [encode(both), encode(coming), encode(used(70, "key_2"))])
    spending = Spending(link, lambda: pool, 60)
    await asyncio.gather(*(spending.find_out(BUDGET, now()) for _ in range(8)))
    assert await counted(link) == (111, 0, 0, 0)


async def test_what_is_settled_while_it_is_looked_up_is_not_lost(
    link: Link, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spending = Spending(link, lambda: pool, 60)
    hold = held(50)
    await spending.find_out(BUDGET, now())
    assert (await put(link, task("job-1", hold))).state == "queued"
    await queue.claim(link, "wk", {QUEUE: 1})
    await link.call("DEL", keys.tally("key", "key_1"))
    event = used(40)
    spent = Spending._spent
    looks = 0

    async def late(self: Spending, *about: object) -> object:
        nonlocal looks
        looks += 1
        found = await spent(self, *about)  # type: ignore[arg-type]
        if looks == 1:
            assert await ending.finish(
                link, "wk", QUEUE, "job-1", encode(event), Bill(packed(hold), 40, 0)
            )
        return found

    monkeypatch.setattr(Spending, "_spent", late)
    await spending.find_out(BUDGET, now())
    assert looks == 2
    assert await counted(link) == (40, 0, 0, 0)


async def test_without_the_database_a_budgeted_request_is_refused_and_counts_nothing(
    link: Link,
) -> None:
    def away() -> Pool:
        raise psycopg.OperationalError("away")

    async def prices() -> dict[str, Price]:
        return {}

    clock = SystemClock()
    spending = Spending(link, away, 60)
    reservations = Reservations(link, Prices(prices), spending, 60, clock)
    hold = held(50)
    job = task("job-1", hold)
    with pytest.raises(Unavailable, match="database does not answer"):
        await reservations.place(Reservation(ACCOUNT, None, hold), lambda: put(link, job))
    assert await counted(link) is None
    assert not await queue.exists(link, "job-1")
    assert await link.call("ZCARD", keys.HOLDS) == 0


async def test_redis_that_forgets_everything_does_not_count_below_nothing(
    link: Link, pool: Pool
) -> None:
    spending = Spending(link, lambda: pool, 60)
    await spending.find_out(BUDGET, now())
    ends, returns = held(300), held(400)
    await put(link, task("job-1", ends))
    await put(link, task("job-2", returns))
    claimed = {job.id: job for job in await queue.claim(link, "wk", {QUEUE: 2})}
    await link.call("FLUSHALL")
    # One worker puts its job back, another finds its lease gone and the gateway queues it again.
    assert await queue.restore(link, "wk", claimed["job-1"])
    assert (await put(link, task("job-2", returns), attempt=2)).state == "queued"
    await spending.find_out(BUDGET, now())
    assert await counted(link) == (0, 0, 700, 0)
    reservations = Reservations(link, Prices(no_prices), spending, 60, SystemClock())
    late = held(301)
    with pytest.raises(BudgetExhausted, match="held by requests under way 700"):
        await reservations.place(
            Reservation(ACCOUNT, None, late), lambda: put(link, task("job-3", late))
        )
    assert await ending.finish(link, "wk", QUEUE, "job-1", None, Bill(packed(ends), 200, 0))
    await queue.claim(link, "wk", {QUEUE: 1})
    assert await ending.finish(link, "wk", QUEUE, "job-2", None, Bill(packed(returns), 100, 0))
    assert await counted(link) == (300, 0, 0, 0)
    assert await link.call("ZCARD", keys.HOLDS) == 0


async def no_prices() -> dict[str, Price]:
    return {}


async def test_what_ends_after_redis_forgot_it_is_counted_where_the_budget_is_known(
    link: Link, pool: Pool
) -> None:
    spending = Spending(link, lambda: pool, 60)
    await spending.find_out(BUDGET, now())
    hold = held(300)
    await put(link, task("job-1", hold))
    await queue.claim(link, "wk", {QUEUE: 1})
    await link.call("FLUSHALL")
    await link.call("SET", keys.IN_PROGRESS + "job-1", "wk")
    await spending.find_out(BUDGET, now())
    assert await ending.finish(link, "wk", QUEUE, "job-1", None, Bill(packed(hold), 200, 0))
    assert await counted(link) == (200, 0, 0, 0)


async def test_what_ran_when_a_budget_was_made_is_counted_when_it_has_ended(
    link: Link, pool: Pool, database_url: str
) -> None:
    free = task("job-1", held(50))
    free = msgspec.structs.replace(free, hold=b"")
    assert (await put(link, free)).state == "queued"
    await queue.claim(link, "wk", {QUEUE: 1})
    spending = Spending(link, lambda: pool, 0.5 - MARGIN)
    await spending.find_out(BUDGET, now())
    assert await ending.finish(link, "wk", QUEUE, "job-1", encode(used(900)), None)
    assert await counted(link) == (0, 0, 0, 0)
    reservations = Reservations(link, Prices(no_prices), spending, 60, SystemClock())
    number, placed = 1, Placed("known", 0)
    async with asyncio.timeout(30):
        while not placed.late:
            number += 1
            placed = await put(link, task(f"job-{number}", held(1)))
            assert placed.state == "queued"
            await asyncio.sleep(0.05)

        async def ask() -> Placed:
            nonlocal number
            number += 1
            job = task(f"job-{number}", held(1))
            return await reservations.place(
                Reservation(ACCOUNT, None, held(1)), lambda: put(link, job)
            )

        known = await counted(link)
        while known is not None and known.tokens < 900:
            await ask()
            await asyncio.sleep(0.02)
            known = await counted(link)
    with pytest.raises(BudgetExhausted, match="spent 900"):
        await reservations.place(
            Reservation(ACCOUNT, None, held(101)), lambda: put(link, task("job-0", held(101)))
        )


async def test_a_second_look_without_the_database_stops_nobody(
    link: Link, pool: Pool, database_url: str
) -> None:
    there = Spending(link, lambda: pool, 0.01 - MARGIN)
    await there.find_out(BUDGET, now())
    await asyncio.sleep(0.02)

    def away() -> Pool:
        raise psycopg.OperationalError("away")

    spending = Spending(link, away, 60)
    reservations = Reservations(link, Prices(no_prices), spending, 60, SystemClock())
    for number in range(3):
        job = task(f"job-{number}", held(1))
        placed = await reservations.place(
            Reservation(ACCOUNT, None, held(1)), lambda job=job: put(link, job)
        )
        assert (placed.state, placed.late) == ("queued", True)
    assert await counted(link) == (0, 0, 3, 0)
    there.look_again([BUDGET], now())
    async with asyncio.timeout(30):
        while (await put(link, task(f"job-{now()}", held(1)))).late:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
