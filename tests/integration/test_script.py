"""Functions that a real server keeps: loaded where they lack, and what stays in them."""

from __future__ import annotations

import asyncio
import time

import hiredis
import msgspec
import pytest

from shared import ending, holds, keys, line, queue
from shared.ending import Bill
from shared.resp import Link
from shared.wire.account import Account, Limits, Owner
from shared.wire.hold import decode, encode, read_tallies
from shared.wire.task import Task

REMEMBERED = 512
"""Of shared/lua/tally.lua."""
WORKER = "wk"


@pytest.fixture
async def link(link: Link) -> Link:
    """One to a server that has no function yet."""
    await link.call("FUNCTION", "FLUSH")
    return link


async def libraries(link: Link) -> list[str]:
    listed = await link.call("FUNCTION", "LIST")
    return sorted(library[1].decode() for library in listed)


async def test_many_calls_at_once_load_it_once(link: Link) -> None:
    asked = [[keys.queue(f"m{number}")] for number in range(50)]
    found = await asyncio.gather(*(line.waiting(link, names) for names in asked))
    assert found == [{name: line.Line(0, 0)} for (name,) in asked]
    assert len(await libraries(link)) == 1


async def test_a_server_that_forgot_it_is_told_again(link: Link) -> None:
    assert await line.waiting(link, [keys.queue("m")]) == {keys.queue("m"): line.Line(0, 0)}
    (name,) = await libraries(link)
    await link.call("FUNCTION", "FLUSH")
    assert await line.waiting(link, [keys.queue("m")])
    assert await libraries(link) == [name]


async def test_an_error_inside_it_is_no_reason_to_load_it(link: Link) -> None:
    await link.call("SET", keys.queue("m"), "no sorted set")
    with pytest.raises(hiredis.ReplyError, match="WRONGTYPE"):
        await line.waiting(link, [keys.queue("m")])


def job(name: str, account: Account) -> Task:
    now = time.time_ns() // 1_000_000
    hold = holds.of_account(account, now, now + 60_000, 50, 0)
    assert hold is not None
    return Task(
        *(name, "chat", "m", "g", 1, True, b"", account.key, "batch", now + 60_000),
        hold=encode(hold),
    )


async def place(link: Link, task: Task) -> str:
    placed = await queue.enqueue(link, task, None, queue.NO_LIMIT, time.time_ns() // 1_000_000)
    return placed.state


async def settle(link: Link, task: Task) -> None:
    await link.call("SET", keys.IN_PROGRESS + task.id, WORKER)
    bill = Bill(task.hold, 7, 0)
    assert await ending.finish(link, WORKER, keys.queue("m"), task.id, None, bill)


async def tokens(link: Link, owner: Owner, id_: str) -> tuple[int, int]:
    """Requests at a time, and tokens of the minute."""
    kept = holds.NOW.unpack(await link.call("GET", keys.tally(owner, id_)))
    return kept[2], kept[7]


async def test_more_callers_than_are_remembered_are_told_apart(link: Link) -> None:
    accounts = [
        Account(f"k{i}", f"p{i}", "o", "n", (), (), Limits(1, 100 + i), Limits(2, 900, 1))
        for i in range(2 * REMEMBERED + 10)
    ]
    tasks = [job(f"job-{account.key}", account) for account in accounts]
    assert set(await asyncio.gather(*(place(link, task) for task in tasks))) == {"queued"}
    more = (job(f"more-{account.key}", account) for account in accounts)
    assert set(await asyncio.gather(*(place(link, task) for task in more))) == {"limited"}
    for account in accounts:
        assert await tokens(link, "project", account.project) == (1, 50)
    await asyncio.gather(*(settle(link, task) for task in reversed(tasks)))
    for account in accounts:
        assert await tokens(link, "project", account.project) == (0, 7)
        assert await tokens(link, "key", account.key) == (0, 7)
    assert await link.call("ZCARD", keys.HOLDS) == 0


async def test_a_server_that_is_full_takes_nothing_new_and_ends_what_it_has(link: Link) -> None:
    account = Account("k", "p", "o", "n", (), (), Limits(9, 900, 9))
    first, second, third = (job(f"job-{number}", account) for number in range(3))
    for task in (first, second):
        assert await place(link, task) == "queued"
    claimed = await queue.claim(link, WORKER, {keys.queue("m"): 1})
    assert [one.id for one in claimed] == [first.id]
    await link.call("CONFIG", "SET", "maxmemory", 1)
    try:
        with pytest.raises(hiredis.ReplyError, match="OOM"):
            await place(link, third)
        assert await queue.renew(link, WORKER, {first.id: keys.queue("m")}) == []
        bill = Bill(first.hold, 7, 0)
        assert await ending.finish(link, WORKER, keys.queue("m"), first.id, None, bill)
        assert await ending.abort(link, keys.queue("m"), second.id) == 2
    finally:
        await link.call("CONFIG", "SET", "maxmemory", 0)
    assert await tokens(link, "key", "k") == (0, 7)
    assert await link.call("ZCARD", keys.HOLDS) == 0


async def test_a_hold_of_before_ends_as_it_should(link: Link) -> None:
    """Its tallies were part of it, not a text."""
    account = Account("k", "p", "o", "n", (), (), Limits(9, 900, 9))
    task = job("job-1", account)
    hold = decode(task.hold)
    parts = (*msgspec.structs.astuple(hold)[:-1], read_tallies(hold.tallies))
    before = msgspec.structs.replace(task, hold=msgspec.msgpack.encode(parts))
    assert await place(link, before) == "queued"
    assert await tokens(link, "key", "k") == (1, 50)
    await settle(link, before)
    assert await tokens(link, "key", "k") == (0, 7)
