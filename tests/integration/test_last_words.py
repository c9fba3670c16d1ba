"""What is settled and written down when those who counted are dead, or two believe it is theirs."""

from __future__ import annotations

import time

import pytest
from msgspec.structs import replace

from shared import ending, holds, ids, keys, queue
from shared.ending import Bill
from shared.resp import Link
from shared.wire.account import Account, Budget, Limits
from shared.wire.hold import Hold
from shared.wire.hold import encode as packed
from shared.wire.task import Origin, Task
from shared.wire.usage import UsageEvent, decode, encode

BUDGET = Budget("budget_1", "key", "key_1", "day", tokens=1000)
QUEUE = keys.queue("m")


def now() -> int:
    return int(time.time() * 1000)


def account(limits: Limits | None = None, *budgets: Budget) -> Account:
    limits = limits or Limits()
    return Account("key_1", "p", "o", "k", ("inference",), key_limits=limits, budgets=budgets)


def job(hold: Hold | None) -> Task:
    origin = Origin(ids.new("req_"), "p", "chat/completions")
    gateway = ("gw-1", 1, False, b"{}", "key_1", "interactive", now() + 60_000, None)
    return Task(
        ids.new("job-"), "chat", "m", *gateway, origin, None, b"" if hold is None else packed(hold)
    )


def used(task: Task, tokens: int) -> UsageEvent:
    assert task.origin is not None
    return UsageEvent(
        ts_ms=ids.wall_ms(task.origin.request),
        request_id=task.origin.request,
        project="p",
        key="key_1",
        model="m",
        endpoint="chat/completions",
        service="interactive",
        tokens_in=10,
        tokens_out=tokens - 10,
        total_ms=1,
        status=200,
        streamed=False,
    )


@pytest.fixture
async def link(link: Link) -> Link:
    """One to a server that counts the budget."""
    opened = await holds.open_counter(link, BUDGET, now())
    await holds.fill_counter(link, BUDGET, now(), opened, 0, 0)
    return link


async def begun(link: Link, until_ms: int) -> Task:
    """A job with a hold on 100 tokens that a worker has."""
    hold = holds.of_account(account(None, BUDGET), now(), until_ms, 100, 0)
    assert hold is not None
    task = job(hold)
    assert (await queue.enqueue(link, task, None, 100, now())).state == "queued"
    assert len(await queue.claim(link, "wk-1", {QUEUE: 1})) == 1
    return task


async def spent(link: Link) -> tuple[int, int]:
    """Tokens spent and held."""
    found = await holds.read_counter(link, BUDGET, now())
    assert found is not None
    return found.tokens, found.tokens_held


async def events(link: Link) -> list[UsageEvent]:
    return [decode(fields[1]) for _, fields in await link.call("XRANGE", keys.USAGE, "-", "+")]


async def test_a_sweep_bills_and_writes_what_the_dead_said_last(link: Link) -> None:
    jobs = [await begun(link, now() - 6_000) for _ in range(3)]
    for task in jobs:
        said = {task.id: ending.last_words(used(task, 50))}
        assert not await queue.renew(link, "wk-1", {task.id: QUEUE}, said)
        await link.call("DEL", keys.JOB + task.id)
        await link.call("ZADD", keys.HOLDS, now() - 1, task.id)
    assert await spent(link) == (0, 300)
    assert await holds.sweep(link) == 3
    assert await spent(link) == (150, 0)
    wanted = [used(task, 50) for task in jobs]
    # Those of one millisecond come in any order.
    assert sorted(await events(link), key=str) == sorted(wanted, key=str)
    task = jobs[0]
    await link.call("SET", keys.IN_PROGRESS + task.id, "wk-1")
    bill = Bill(task.hold, 70, 0)
    assert await ending.finish(link, "wk-1", QUEUE, task.id, encode(used(task, 70)), bill)
    assert await spent(link) == (150, 0), "as the ledger, which keeps the first line of a request"


async def test_what_two_workers_end_is_billed_once(link: Link) -> None:
    task = await begun(link, now() + 60_000)
    await link.call("SET", keys.IN_PROGRESS + task.id, "wk-2")
    await ending.conclude(link, task.id, encode(used(task, 50)), Bill(task.hold, 50, 0))
    assert await spent(link) == (50, 0)
    late = replace(used(task, 30), status=499)
    assert await ending.finish(link, "wk-2", QUEUE, task.id, encode(late), Bill(task.hold, 30, 0))
    assert await spent(link) == (50, 0)


async def test_words_are_kept_as_long_as_a_hold_can_last(link: Link) -> None:
    task = await begun(link, now() + 600_000)
    said = {task.id: ending.last_words(used(task, 50))}
    await queue.renew(link, "wk-1", {task.id: QUEUE}, said)
    assert await link.call("PTTL", keys.WORDS + task.id) > 600_000 + holds.GRACE_MS


async def test_who_is_refused_for_requests_is_told_of_tokens(link: Link) -> None:
    limits = Limits(requests_per_minute=1, tokens_per_minute=1000)
    for state in ("queued", "limited"):
        hold = holds.of_account(account(limits), now(), now() + 60_000, 900, 0)
        placed = await queue.enqueue(link, job(hold), None, 100, now())
        assert placed.state == state
    (standing,) = holds.standings(account(limits), placed.standing)
    assert (standing.requests, standing.tokens) == (1, 900)
