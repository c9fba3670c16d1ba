"""Usage events on their way: written by whoever ends a request, once, or told where there is no
room."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from gateway import record
from gateway.record import Record
from shared import ending, ids, keys, queue, usage_stream
from shared.resp import Link
from shared.wire.task import Origin
from shared.wire.usage import UsageEvent, decode, encode
from tests.jobs import QUEUE, expire_lease, put, take, task


def event(name: str = "") -> UsageEvent:
    id_ = name or ids.new("req_")
    return UsageEvent(
        ts_ms=ids.wall_ms(id_),
        request_id=id_,
        project="proj_default",
        key="key_1",
        model="m",
        endpoint="chat/completions",
        service="interactive",
        tokens_in=7,
        tokens_out=3,
        total_ms=20,
        status=200,
        streamed=True,
    )


async def written(link: Link) -> list[UsageEvent]:
    return [decode(fields[1]) for _, fields in await link.call("XRANGE", keys.USAGE, "-", "+")]


async def lost(link: Link) -> int:
    return int(await link.call("GET", keys.USAGE_LOST) or 0)


async def test_who_holds_the_lease_writes_the_use_down_and_nobody_else(link: Link) -> None:
    await put(link, task("job-1"))
    await take(link)
    await expire_lease(link, "job-1")
    assert await take(link, worker="wk-2") == ["job-1"]
    used = event()
    assert not await ending.finish(link, "wk-1", QUEUE, "job-1", encode(event()))
    assert await ending.finish(link, "wk-2", QUEUE, "job-1", encode(used))
    assert not await ending.finish(link, "wk-2", QUEUE, "job-1", encode(event()))
    assert await written(link) == [used]


async def test_a_job_dropped_from_the_queue_is_written_down_once(link: Link) -> None:
    await put(link, task("job-1"))
    used = event()
    assert await ending.abort(link, QUEUE, "job-1", used) == 2
    assert await ending.abort(link, QUEUE, "job-1", used) == 0
    assert await written(link) == [used]


async def test_a_job_that_runs_is_written_down_by_its_worker(link: Link) -> None:
    await put(link, task("job-1"))
    await take(link)
    assert await ending.abort(link, QUEUE, "job-1", event()) == 1
    assert await written(link) == []


async def test_who_dies_leaves_last_words(link: Link) -> None:
    """A worker dies, the client leaves: what was known last is written down when the job drops."""
    await put(link, task("job-1"))
    await take(link)
    early, late = event(), replace(event(), tokens_out=5)
    assert (
        await queue.renew(link, "wk-1", {"job-1": QUEUE}, {"job-1": ending.last_words(early)}) == []
    )
    assert await ending.abort(link, QUEUE, "job-1", late) == 1
    await expire_lease(link, "job-1")
    assert await take(link, worker="wk-2") == []
    assert await written(link) == [late]
    assert not await link.call("EXISTS", keys.JOB + "job-1", keys.WORDS + "job-1")


async def test_a_later_attempt_that_learns_nothing_writes_the_last_words_down(link: Link) -> None:
    """A worker and the gateway die."""
    await put(link, task("job-1"))
    await take(link)
    words = event()
    await queue.renew(link, "wk-1", {"job-1": QUEUE}, {"job-1": ending.last_words(words)})
    await expire_lease(link, "job-1")
    assert await take(link, worker="wk-2") == ["job-1"]
    assert await ending.finish(link, "wk-2", QUEUE, "job-1", encode(event()), blind=True)
    assert await written(link) == [words]


async def test_what_finds_no_room_is_counted_and_in_the_log(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_stream, "MOST_EVENTS", 2)
    await usage_stream.record(link, [encode(event())])
    used = [event() for _ in range(4)]
    with capture_logs() as said:
        await usage_stream.record(link, [encode(one) for one in used[:2]])
        await put(link, task("job-1"))
        await take(link)
        assert await ending.finish(link, "wk-1", QUEUE, "job-1", encode(used[2]))
        await put(link, task("job-2"))
        assert await ending.abort(link, QUEUE, "job-2", used[3]) == 2
    told = "".join(line["used"] for line in said if "used" in line)
    assert [one.request_id in told for one in used] == [False, True, True, True]
    assert await lost(link) == 3
    assert len(await written(link)) == 2


async def test_refusals_leave_in_batches_and_in_order(link: Link) -> None:
    events = [event() for _ in range(1_200)]
    record = Record(link)
    record.start()
    for one in events:
        record.add(one)
    async with asyncio.timeout(30):
        while await link.call("XLEN", keys.USAGE) < len(events):
            pass
    assert await written(link) == events
    await record.stop()


async def test_a_gateway_that_ends_sends_what_is_left(link: Link) -> None:
    record = Record(link)
    used = event()
    record.add(used)
    await record.stop()
    assert await written(link) == [used]


async def test_nothing_is_lost_in_silence(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "MOST_WAITING", 1)
    full = Record(link)
    full.add(event())
    late, later = event(), event()
    with capture_logs() as said:
        full.add(late)
        await full.stop()
        full.add(later)
    assert [late.request_id in said[0]["used"], later.request_id in said[1]["used"]] == [True, True]
    assert full.lost == 2


async def test_a_task_carries_whose_use_it_is(link: Link) -> None:
    sent = task("job-1")
    assert sent.origin is None
    origin = Origin("req_1", "proj_1", "embeddings")
    await put(link, replace(sent, origin=origin))
    (claimed,) = await queue.claim(link, "wk-1", {QUEUE: 1})
    assert claimed.task.origin == origin
