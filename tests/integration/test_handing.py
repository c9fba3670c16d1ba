"""Jobs that go to a worker with its call: its own then, and put in line where it has no place."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from msgspec.structs import replace

from shared import ending, keys, line, queue, wake
from shared.queue import Claimed, Placed
from shared.resp import Argument, Link
from shared.wire.event import Answer, Cancel, Done
from shared.wire.task import Task
from tests.lanes import PLACES, assert_whole, eventually, rest, running, some, tokens
from tests.native import Upstream
from worker.lane import Lane
from worker.listening import Listening

QUEUE = keys.queue("m")
WAKE = keys.wake("wk-1")


def task(name: str, size: int = 0) -> Task:
    deadline = int(time.time() * 1000) + 60_000
    return Task(name, "chat", "m", "gw-1", 1, True, b"x" * size, "alice", "interactive", deadline)


async def put(link: Link, job: Task, *, hand: bool = True) -> Placed:
    return await queue.enqueue(link, job, "wk-1", 100, int(time.time() * 1000), hand=hand)


async def calls(link: Link) -> list[bytes]:
    found: list[bytes] = await link.call("LRANGE", WAKE, 0, -1)
    return found


async def handed(link: Link) -> list[Claimed]:
    found = [call for call in await calls(link) if call.startswith(wake.HANDED)]
    read = [queue.receive(link, "wk-1", call) for call in found]
    return [job for job in read if job is not None]


def hearing(url: str, heard: list[bytes]) -> Listening:
    """The ears of a worker that note what is handed to it."""

    def receive(call: bytes, *, late: bool) -> None:
        assert not late
        heard.append(call)

    return Listening(url, "wk-1", lambda _: None, lambda _: None, receive)


async def waiting(link: Link) -> int:
    return (await line.waiting(link, [QUEUE]))[QUEUE].waiting


async def test_it_arrives_as_it_was_sent_and_is_nobody_elses(link: Link) -> None:
    sent = task("job-1", size=500)
    assert await put(link, sent) == Placed("queued", 0)
    (job,) = await handed(link)
    assert (job.task, job.attempt, job.queue) == (sent, 1, QUEUE)
    assert await link.call("GET", keys.IN_PROGRESS + "job-1") == b"wk-1"
    assert await waiting(link) == 0
    assert await queue.claim(link, "wk-2", {QUEUE: 4}) == []
    assert await queue.renew(link, "wk-1", {"job-1": QUEUE}) == []
    assert await ending.finish(link, "wk-1", QUEUE, "job-1")
    assert await link.call("KEYS", "*") == [WAKE.encode()]


async def test_who_waits_comes_first(link: Link) -> None:
    await put(link, task("first"), hand=False)
    await put(link, task("second"))
    assert not await handed(link)
    assert [job.id for job in await queue.claim(link, "wk-1", {QUEUE: 4})] == ["first", "second"]


async def test_a_large_job_is_claimed(link: Link) -> None:
    await put(link, task("small", queue.MOST_HANDED // 2))
    await put(link, task("large", queue.MOST_HANDED))
    assert [job.id for job in await handed(link)] == ["small"]
    assert await waiting(link) == 1


async def test_a_worker_that_does_not_listen_gets_a_bounded_number(link: Link) -> None:
    for number in range(64):
        await put(link, task(f"job-{number}"))
    found = [job.id for job in await handed(link)]
    assert found == [f"job-{number}" for number in range(32)]
    assert await waiting(link) == 32


async def test_what_was_not_heard_is_another_attempt_when_its_lease_is_over(link: Link) -> None:
    await put(link, task("job-1"))
    await link.call("DEL", keys.IN_PROGRESS + "job-1", WAKE)
    await link.call("ZADD", QUEUE, int(time.time() * 1000) - 10, "job-1")
    assert await waiting(link) == 1
    (job,) = await queue.claim(link, "wk-2", {QUEUE: 1})
    assert (job.id, job.attempt) == ("job-1", 2)


async def test_what_is_declined_waits_in_its_turn(link: Link) -> None:
    await put(link, task("first"))
    (job,) = await handed(link)
    assert await queue.decline(link, job, "wk-1")
    await put(link, task("second"))
    assert await waiting(link) == 2
    await link.call("SET", keys.IN_PROGRESS + "second", "wk-2")
    assert await queue.decline(link, job._replace(id="second", task=task("second")), "wk-1")
    assert await link.call("GET", keys.IN_PROGRESS + "second") == b"wk-2", "it was not its own"
    await link.call("DEL", keys.IN_PROGRESS + "second")
    found = await queue.claim(link, "wk-2", {QUEUE: 4})
    assert [(job.id, job.attempt) for job in found] == [("first", 1), ("second", 1)]


async def test_what_was_cancelled_meanwhile_does_not_wait(link: Link) -> None:
    await put(link, task("job-1"))
    (job,) = await handed(link)
    assert await ending.abort(link, QUEUE, "job-1") == 1
    assert not await queue.decline(link, job, "wk-1")
    assert await waiting(link) == 0
    assert await ending.finish(link, "wk-1", QUEUE, "job-1")
    assert not await link.call("KEYS", "arq:*")


async def test_a_job_that_was_handed_back_is_not_passed_by(link: Link) -> None:
    await put(link, task("first"))
    await queue.release(link, "wk-1", QUEUE, "first")
    await put(link, task("second"))
    assert [job.id for job in await handed(link)] == ["first"]
    found = await queue.claim(link, "wk-2", {QUEUE: 4})
    assert [(job.id, job.attempt) for job in found] == [("first", 2), ("second", 1)]


@pytest.mark.parametrize("hand", [True, False])
async def test_the_attempts_of_long_jobs_are_counted_from_the_first(link: Link, hand: bool) -> None:
    """After half an hour a lease that ran out looks like a place in line."""
    deadline = int(time.time() * 1000) + 7_200_000
    await put(link, replace(task("job-1"), deadline_ms=deadline), hand=hand)
    if not hand:
        await queue.claim(link, "wk-1", {QUEUE: 1})
    await link.call("DEL", keys.IN_PROGRESS + "job-1")
    await link.call("ZADD", QUEUE, int(time.time() * 1000) - 2 * queue.BOUNDARY_MS, "job-1")
    (job,) = await queue.claim(link, "wk-2", {QUEUE: 1})
    assert job.attempt == 2


async def test_nothing_is_handed_to_a_worker_that_hears_no_more(
    link: Link, valkey_url: str
) -> None:
    heard: list[bytes] = []
    listening = hearing(valkey_url, heard)
    await listening.start()
    running = asyncio.create_task(listening.run())
    await put(link, task("before"))
    await eventually(lambda: len(heard) == 1)
    await listening.close(link)
    async with asyncio.timeout(5):
        await running
    await put(link, task("after"))
    assert await calls(link) == [wake.CLOSED, QUEUE.encode()]
    assert 0 < await link.call("PTTL", WAKE) <= keys.WAKE_MS
    assert [job.id for job in await queue.claim(link, "wk-2", {QUEUE: 4})] == ["after"]
    await listening.stop()


async def test_what_a_worker_was_handed_while_it_closed_is_heard(
    link: Link, valkey_url: str
) -> None:
    heard: list[bytes] = []
    listening = hearing(valkey_url, heard)
    await listening.start()
    listening._deaf.set()
    await put(link, task("late"))
    await listening.close(link)
    assert len(heard) == 1
    assert await calls(link) == [wake.CLOSED]
    await listening.stop()


async def test_a_worker_with_places_claims_nothing(
    valkey_url: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> list[Claimed]:
        raise AssertionError("claimed")

    monkeypatch.setattr(queue, "claim", never)
    async with running(valkey_url, upstream) as hub:
        for _ in range(2):
            asked = [await hub.ask(30) for _ in range(PLACES)]
            for reply in asked:
                assert_whole(await rest(reply), 30)


async def test_a_worker_without_a_place_declines(valkey_url: str, upstream: Upstream) -> None:
    """Two gateways, neither of which knows what the other sends."""
    async with running(valkey_url, upstream, dispatches=2) as hub:
        full = [await hub.ask(200, dispatch=hub.dispatches[0]) for _ in range(PLACES)]
        for reply in full:
            await some(reply, 1)
        more = [await hub.ask(20, dispatch=hub.dispatches[1], streamed=False) for _ in range(6)]
        for reply in more:
            answer = (await rest(reply))[-1]
            assert isinstance(answer, Answer)
            assert answer.choices[0].text == tokens(20)
        for reply in full:
            reply.close()


async def test_a_request_that_left_before_it_was_heard_takes_no_place(
    valkey_url: str, upstream: Upstream
) -> None:
    async with running(valkey_url, upstream) as hub:
        for _ in range(20):
            (await hub.ask(5_000)).close()
        await eventually(hub.idle)
        assert_whole(await rest(await hub.ask(30)), 30)
        assert not await hub.left()


def silence(monkeypatch: pytest.MonkeyPatch, lane: Lane, seconds: float) -> None:
    """Its connection for calls brings nothing for so long, and then all of it."""
    link = lane._listening._link
    loop = asyncio.get_running_loop()
    call, until = link.call, loop.time() + seconds

    def late(*command: Argument) -> asyncio.Future[Any]:
        return asyncio.ensure_future(wait(*command))

    async def wait(*command: Argument) -> Any:
        await asyncio.sleep(until - loop.time())
        return await call(*command)

    monkeypatch.setattr(link, "call", late)


async def test_a_worker_whose_calls_do_not_come_hears_them_otherwise(
    valkey_url: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(valkey_url, upstream) as hub:
        silence(monkeypatch, hub.lanes[0], 12)
        await asyncio.sleep(1.2)
        began = time.monotonic()
        asked = [await hub.ask(count) for count in (600, 3, 3)]
        for reply, count in zip(asked, (600, 3, 3), strict=True):
            assert_whole(await rest(reply), count)
        assert time.monotonic() - began < 9, "neither a second lease nor a question unanswered"


async def test_calls_that_come_late_start_nothing_twice(
    valkey_url: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their leases ran out, and the jobs run as later attempts, or have ended."""
    async with running(valkey_url, upstream) as hub:
        lane, begun = hub.lanes[0], []
        begin = lane._begin
        monkeypatch.setattr(lane._listening, "catch_up", lambda _: asyncio.sleep(0))
        for part in (lane._claims, lane._handed):
            monkeypatch.setattr(
                part, "_begin", lambda job, *how: begun.append(job.id) or begin(job, *how)
            )
        silence(monkeypatch, lane, 6)
        await asyncio.sleep(1.2)
        asked = [await hub.ask(count) for count in (1_500, 3)]
        for reply, count in zip(asked, (1_500, 3), strict=True):
            assert_whole(await rest(reply), count)
        assert sorted(begun) == sorted(reply.task.id for reply in asked)


async def test_a_cancelled_job_is_dropped_when_it_is_heard(
    valkey_url: str, upstream: Upstream
) -> None:
    async with running(valkey_url, upstream) as hub:
        lane, reply = hub.lanes[0], None
        heard = lane._handed.receive
        calls: list[bytes] = []
        lane._listening._receive = lambda call, *, late: calls.append(call)
        reply = await hub.ask(5_000)
        await eventually(lambda: len(calls) == 1)
        reply.close()
        await eventually(lambda: reply.task.id in lane._handed._left)
        heard(calls[0], late=False)
        await eventually(hub.idle)
        lane._listening._receive = heard
        assert not lane._handed._left
        assert_whole(await rest(await hub.ask(30)), 30)
        assert not await hub.left()


async def test_a_cancellation_of_what_does_not_run_says_nothing_of_later_attempts(
    valkey_url: str, upstream: Upstream
) -> None:
    async with running(valkey_url, upstream) as hub:
        lane = hub.lanes[0]
        reply = await hub.ask(300)
        await some(reply, 3)
        await hub.link.call("SET", keys.IN_PROGRESS + reply.task.id, "wk-other", "PX", 60_000)
        await eventually(lambda: reply.task.id not in lane._running)
        lane._obey(Cancel(reply.task.id))
        await hub.take_lease_away(reply)
        items = await rest(reply)
        assert isinstance(items[-1], Done)
