"""Jobs that are cancelled while they wait or run."""

from __future__ import annotations

import time

from shared import ending, keys, queue
from shared.resp import Link
from shared.wire.event import Cancel, decode_control
from tests.jobs import QUEUE, expire_lease, names, put, take, task


async def test_cancelling_what_waits_drops_it(link: Link) -> None:
    await put(link, task("job-1"))
    assert await ending.abort(link, QUEUE, "job-1") == 2
    assert await take(link) == []
    assert not await names(link, "arq:*")


async def test_cancelling_what_runs_tells_its_worker(link: Link) -> None:
    await put(link, task("job-1"))
    await take(link)
    assert await ending.abort(link, QUEUE, "job-1") == 1
    message = await link.call("LPOP", keys.control("wk-1"))
    assert decode_control(message) == Cancel("job-1")
    await ending.finish(link, "wk-1", QUEUE, "job-1")
    assert not await names(link, "arq:*")


async def test_a_cancelled_job_of_a_dead_worker_is_not_run_again(link: Link) -> None:
    await put(link, task("job-1"))
    await take(link)
    await ending.abort(link, QUEUE, "job-1")
    await expire_lease(link, "job-1")
    assert await take(link, worker="wk-2") == []
    assert not await names(link, "arq:*")


async def test_cancelling_what_is_not_there_poisons_nothing(link: Link) -> None:
    assert await ending.abort(link, QUEUE, "job-1") == 0
    await put(link, task("job-1"))
    assert await take(link) == ["job-1"]


async def test_old_cancellations_are_forgotten(link: Link) -> None:
    await link.call("ZADD", keys.ABORT, int(time.time() * 1000) - 61_000, "old")
    await link.call("ZADD", keys.ABORT, int(time.time() * 1000), "new")
    await put(link, task("job-1"))
    await take(link)
    await queue.renew(link, "wk-1", {"job-1": QUEUE})
    assert await link.call("ZRANGE", keys.ABORT, 0, -1) == [b"new"]


async def test_a_lost_cancellation_is_heard_at_the_next_renewal(link: Link) -> None:
    await put(link, task("job-1"))
    await take(link)
    await ending.abort(link, QUEUE, "job-1")
    await link.call("DEL", keys.control("wk-1"))
    assert await queue.renew(link, "wk-1", {"job-1": QUEUE}) == ["job-1"]
    await expire_lease(link, "job-1")
    assert await take(link) == []
    assert not await names(link, "arq:*")
