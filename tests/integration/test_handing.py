"""Jobs that go to a worker with its call: its own then, and put in line where it has no place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from shared import ending, keys, queue
from shared.queue import Claimed, Placed
from shared.resp import Link
from shared.wire.event import Answer
from shared.wire.task import Task
from tests import native
from tests.lanes import PLACES, assert_whole, eventually, rest, running, some, tokens
from tests.native import Upstream
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
    found = [call for call in await calls(link) if call.startswith(queue.HANDED)]
    read = [queue.receive(link, "wk-1", call) for call in found]
    return [job for job in read if job is not None]


async def waiting(link: Link) -> int:
    return (await queue.waiting(link, [QUEUE]))[QUEUE].waiting


@pytest.fixture
async def link(valkey_url: str) -> AsyncIterator[Link]:
    link = Link(valkey_url, "test")
    await link.start()
    await link.wait_open(5)
    yield link
    await link.stop()


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    programs = native.build(tmp_path_factory.mktemp("native"))
    with native.upstream(programs, programs / "s", "--pace-ms", "4") as running:
        yield running


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
    assert not await queue.decline(link, job, "wk-1"), "it was not its own any more"
    await put(link, task("second"))
    assert await waiting(link) == 2
    found = await queue.claim(link, "wk-2", {QUEUE: 4})
    assert [(job.id, job.attempt) for job in found] == [("first", 1), ("second", 1)]


async def test_nothing_is_handed_to_a_worker_that_hears_no_more(
    link: Link, valkey_url: str
) -> None:
    heard: list[bytes] = []
    listening = Listening(valkey_url, "wk-1", lambda _: None, lambda _: None, heard.append)
    await listening.start()
    running = asyncio.create_task(listening.run())
    await put(link, task("before"))
    await eventually(lambda: len(heard) == 1)
    await listening.close(link)
    async with asyncio.timeout(5):
        await running
    await put(link, task("after"))
    assert await calls(link) == [queue.CLOSED, QUEUE.encode()]
    assert 0 < await link.call("PTTL", WAKE) <= keys.WAKE_MS
    assert [job.id for job in await queue.claim(link, "wk-2", {QUEUE: 4})] == ["after"]
    await listening.stop()


async def test_what_a_worker_was_handed_while_it_closed_is_heard(
    link: Link, valkey_url: str
) -> None:
    heard: list[bytes] = []
    listening = Listening(valkey_url, "wk-1", lambda _: None, lambda _: None, heard.append)
    await listening.start()
    listening._deaf.set()
    await put(link, task("late"))
    await listening.close(link)
    assert len(heard) == 1
    assert await calls(link) == [queue.CLOSED]
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
