"""The Lua calls of the queue, on a real server, and arq's own tools on the same keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.jobs import Job, JobStatus

from shared import ending, keys, queue
from shared.resp import Link
from shared.wire.task import encode
from tests.jobs import QUEUE, expire_lease, names, put, take, task


@pytest.fixture
async def arq(valkey_url: str) -> AsyncIterator[ArqRedis]:
    pool = await create_pool(
        RedisSettings.from_dsn(valkey_url),
        job_serializer=queue.serialize,
        job_deserializer=queue.deserialize,
        default_queue_name=QUEUE,
    )
    yield pool
    await pool.aclose()


async def test_a_job_arrives_as_it_was_sent_and_leaves_nothing(link: Link) -> None:
    sent = task("job-1", size=500)
    assert await put(link, sent) == queue.Placed("queued", 0)
    (claimed,) = await queue.claim(link, "wk-1", {QUEUE: 4})
    assert (claimed.task, claimed.attempt, claimed.queue) == (sent, 1, QUEUE)
    assert await ending.finish(link, "wk-1", QUEUE, "job-1")
    assert await names(link) <= {keys.wake("wk-1"), keys.share("m", "alice")}


async def test_a_job_waits_also_where_nobody_can_be_called(link: Link) -> None:
    await queue.enqueue(link, task("job-1"), None, 100, int(time.time() * 1000))
    assert not await names(link, "aihub:wake:*")
    assert await take(link) == ["job-1"]


async def test_a_full_queue_refuses_and_running_jobs_do_not_count(link: Link) -> None:
    for number in range(3):
        await put(link, task(f"run-{number}"))
    assert len(await take(link)) == 3
    for number in range(2):
        assert (await put(link, task(f"wait-{number}"), limit=2)).state == "queued"
    assert await put(link, task("late"), limit=2) == queue.Placed("full", 2)
    assert not await queue.exists(link, "late")
    assert len(await take(link)) == 2


async def test_the_same_job_twice_is_one_job(link: Link) -> None:
    await put(link, task("job-1"))
    assert (await put(link, task("job-1"))).state == "known"
    assert await take(link) == ["job-1"]
    assert (await put(link, task("job-1"))).state == "known"
    assert await take(link) == []


async def test_only_free_places_are_filled(link: Link) -> None:
    for number in range(5):
        await put(link, task(f"job-{number}", key=f"key-{number}"))
    assert await take(link, 2) == ["job-0", "job-1"]
    assert await take(link, 2, "wk-2") == ["job-2", "job-3"]
    assert await take(link, 0) == []


async def test_classes_go_before_each_other(link: Link) -> None:
    for name, service in (("b", "batch"), ("s", "standard"), ("i", "interactive")):
        await put(link, task(name, key=name, service=service))  # type: ignore[arg-type]
    assert await take(link) == ["i", "s", "b"]


async def test_no_class_waits_for_ever(link: Link) -> None:
    """A batch job goes before interactive ones that came later than its slack."""
    await put(link, task("old", key="b", service="batch"))
    await link.call("ZINCRBY", QUEUE, -queue.SLACK_MS["batch"] - 1, "old")
    await put(link, task("new", key="i"))
    assert await take(link) == ["old", "new"]


async def test_keys_take_turns(link: Link) -> None:
    """Who has twenty requests waiting does not make a second caller wait for all of them."""
    for number in range(20):
        await put(link, task(f"many-{number}", key="many", size=10_000))
    await put(link, task("one", key="one"))
    assert (await take(link)).index("one") <= 1


async def test_a_key_that_waited_its_turn_owes_nothing(link: Link) -> None:
    await put(link, task("job-1"))
    life = await link.call("PTTL", keys.share("m", "alice"))
    assert 0 < life <= queue.cost_ms(task("x"))


async def test_a_lost_lease_is_claimed_again_before_all_that_waits(link: Link) -> None:
    await put(link, task("job-1"))
    await take(link)
    await put(link, task("job-2", key="bob"))
    await expire_lease(link, "job-1")
    claimed = await queue.claim(link, "wk-2", {QUEUE: 2})
    assert [(c.id, c.attempt) for c in claimed] == [("job-1", 2), ("job-2", 1)]
    assert await queue.renew(link, "wk-1", {"job-1": QUEUE}) == ["job-1"]
    assert not await ending.finish(link, "wk-1", QUEUE, "job-1")
    assert await queue.exists(link, "job-1")


async def test_a_lease_that_ran_out_unnoticed_is_taken_again(link: Link) -> None:
    await put(link, task("job-1"))
    await take(link)
    await expire_lease(link, "job-1")
    assert await queue.renew(link, "wk-1", {"job-1": QUEUE}) == []
    assert await take(link, worker="wk-2") == []


async def test_renewal_prolongs(link: Link) -> None:
    await put(link, task("job-1"))
    await take(link)
    await link.call("PEXPIRE", keys.IN_PROGRESS + "job-1", 50)
    assert await queue.renew(link, "wk-1", {"job-1": QUEUE}) == []
    assert await link.call("PTTL", keys.IN_PROGRESS + "job-1") > 2_000


async def test_a_released_job_is_next(link: Link) -> None:
    await put(link, task("job-1"))
    await take(link)
    await put(link, task("job-2", key="bob"))
    assert await queue.release(link, "wk-1", QUEUE, "job-1")
    assert await take(link, 1, "wk-2") == ["job-1"]
    assert not await queue.release(link, "wk-1", QUEUE, "job-1")


async def test_what_a_dead_worker_held_is_due_at_once(link: Link) -> None:
    for name in ("job-1", "job-2", "job-3"):
        await put(link, task(name, key=name))
    assert await take(link, 2) == ["job-1", "job-2"]
    assert await take(link, 1, "wk-2") == ["job-3"]
    assert await queue.reclaim(link, "wk-1", [QUEUE]) == 2
    assert await take(link, worker="wk-3") == ["job-1", "job-2"]


async def test_a_running_job_survives_a_server_that_forgot_it(link: Link) -> None:
    await put(link, task("job-1"))
    (claimed,) = await queue.claim(link, "wk-1", {QUEUE: 1})
    await link.call("FLUSHALL")
    assert await queue.restore(link, "wk-1", claimed)
    assert await queue.renew(link, "wk-1", {"job-1": QUEUE}) == []
    assert await take(link, worker="wk-2") == []
    assert await ending.finish(link, "wk-1", QUEUE, "job-1")
    assert not await names(link, "arq:*")


async def test_a_job_that_another_worker_has_by_now_is_not_restored(link: Link) -> None:
    await put(link, task("job-1"))
    (claimed,) = await queue.claim(link, "wk-1", {QUEUE: 1})
    await expire_lease(link, "job-1")
    await take(link, worker="wk-2")
    assert not await queue.restore(link, "wk-1", claimed)


async def test_a_job_queued_again_remembers_its_attempts(link: Link) -> None:
    await put(link, task("job-1"), attempt=3)
    (claimed,) = await queue.claim(link, "wk-1", {QUEUE: 1})
    assert claimed.attempt == 3
    await expire_lease(link, "job-1")
    (claimed,) = await queue.claim(link, "wk-2", {QUEUE: 1})
    assert claimed.attempt == 4


async def test_jobs_that_are_nowhere_are_found_out(link: Link) -> None:
    await put(link, task("job-1"))
    assert await queue.vanished(link, []) == set()
    assert await queue.vanished(link, ["job-1"]) == set()
    assert await queue.vanished(link, ["job-1", "job-2"]) == {"job-2"}


async def test_a_job_whose_data_expired_leaves_the_queue(link: Link) -> None:
    await put(link, task("job-1"))
    await link.call("DEL", keys.JOB + "job-1")
    assert await take(link) == []
    assert await link.call("ZCARD", QUEUE) == 0


async def test_arq_reads_our_jobs(link: Link, arq: ArqRedis) -> None:
    sent = task("job-1")
    await put(link, sent)
    (definition,) = await arq.queued_jobs(queue_name=QUEUE)
    assert (definition.function, definition.job_id) == ("chat", "job-1")
    job: Job = Job("job-1", arq, _queue_name=QUEUE, _deserializer=queue.deserialize)
    assert await job.status() is JobStatus.queued
    await take(link)
    assert await job.status() is JobStatus.in_progress
    await ending.finish(link, "wk-1", QUEUE, "job-1")
    assert await job.status() is JobStatus.not_found


async def test_we_run_what_arq_enqueued(link: Link, arq: ArqRedis) -> None:
    await arq.enqueue_job("chat", encode(task("job-1")), _job_id="job-1")
    async with asyncio.timeout(5):
        while not (taken := await take(link)):
            pass  # arq rounds its clock, so the job may be due in half a millisecond
    assert taken == ["job-1"]


async def test_what_is_no_job_of_ours_is_dropped_and_holds_up_nothing(
    link: Link, arq: ArqRedis
) -> None:
    await put(link, task("before"))
    await arq.enqueue_job("unknown", 1, _job_id="foreign")
    await arq.enqueue_job("chat", b"not a task", _job_id="broken")
    await put(link, task("after", key="bob"))
    taken: list[str] = []
    async with asyncio.timeout(5):
        while await link.call("ZCARD", QUEUE) > 2:
            taken += await take(link)
    assert sorted(taken) == ["after", "before"]
    assert await names(link, "arq:job:*") == {"arq:job:before", "arq:job:after"}


async def test_who_claimed_what_redis_had_forgotten_was_running_gives_way(link: Link) -> None:
    """As when the last second of its file is lost: the job is there, its lease is not."""
    await put(link, task("job-1"))
    score = await link.call("ZSCORE", QUEUE, "job-1")
    (claimed,) = await queue.claim(link, "wk-1", {QUEUE: 1})
    await link.call("DEL", keys.IN_PROGRESS + "job-1")
    await link.call("ZADD", QUEUE, score, "job-1")
    (again,) = await queue.claim(link, "wk-2", {QUEUE: 1})
    assert again.attempt == claimed.attempt
    assert await queue.restore(link, "wk-1", claimed)
    assert await queue.renew(link, "wk-2", {"job-1": QUEUE}) == ["job-1"]
    assert await queue.renew(link, "wk-1", {"job-1": QUEUE}) == []
