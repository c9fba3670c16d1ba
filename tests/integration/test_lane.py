"""Dispatch and Lane in one process, on a real Valkey, before an upstream that counts its tokens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from shared import ending, keys, replies
from shared.errors import QueueFull
from shared.wire.event import Answer, Done, Failed, Finish, Usage, Vectors
from tests.lanes import (
    PLACES,
    Hub,
    assert_whole,
    eventually,
    rest,
    running,
    served,
    some,
    text,
    tokens,
)
from tests.native import Upstream
from worker.listening import POLL_SECONDS


@pytest.fixture
async def hub(valkey_url: str, upstream: Upstream) -> AsyncIterator[Hub]:
    async with running(valkey_url, upstream) as hub:
        yield hub


async def test_a_stream(hub: Hub) -> None:
    assert_whole(await rest(await hub.ask(50)), 50)


async def test_one_piece(hub: Hub) -> None:
    items = await rest(await hub.ask(20, streamed=False))
    answer = items[-1]
    assert isinstance(answer, Answer)
    assert [(choice.text, choice.reason) for choice in answer.choices] == [(tokens(20), "length")]
    assert answer.usage.completion == 20


async def test_three_choices(hub: Hub) -> None:
    items = await rest(await hub.ask(30, n=3))
    assert [text(items, choice) for choice in range(3)] == [tokens(30)] * 3
    done, each = items[-1], [item for item in items if isinstance(item, Finish)]
    assert isinstance(done, Done)
    assert done.usage == Usage(each[0].usage.prompt, 90)
    assert sorted(finish.choice for finish in each) == [0, 1, 2]


async def test_several_prompts(hub: Hub) -> None:
    prompts = ["one", "another prompt, longer"]
    reply = await hub.ask(5, kind="completion", streamed=False, prompt=prompts, n=2)
    answer = (await rest(reply))[-1]
    assert isinstance(answer, Answer)
    assert [choice.text for choice in answer.choices] == [tokens(5)] * 4
    single = [
        (await rest(await hub.ask(5, kind="completion", streamed=False, prompt=prompt)))[-1]
        for prompt in prompts
    ]
    assert answer.usage.prompt == sum(one.usage.prompt for one in single if isinstance(one, Answer))
    assert answer.usage.completion == 20


async def test_embeddings(hub: Hub) -> None:
    reply = await hub.ask(model="e", kind="embedding", streamed=False, input=["a", "b", "c"])
    vectors = (await rest(reply))[-1]
    assert isinstance(vectors, Vectors)
    assert (vectors.count, vectors.width) == (3, 4)


async def test_what_the_engine_refuses_is_the_callers_error(hub: Hub) -> None:
    failed = (await rest(await hub.ask(0)))[-1]
    assert isinstance(failed, Failed)
    assert failed.status == 400


async def test_a_caller_who_leaves_frees_the_engine_and_the_place(hub: Hub) -> None:
    gone = [await hub.ask(5_000) for _ in range(PLACES)]
    for reply in gone:
        await some(reply, 1)
    waiting = await hub.ask(10)
    for reply in gone:
        reply.close()
    assert_whole(await rest(waiting), 10)
    await eventually(lambda: hub.upstream.stats()["open_streams"] == 0)


async def test_callers_who_leave_at_any_moment_cost_no_place(hub: Hub) -> None:
    """Before the claim, with it, before the first item, in the middle."""
    for turn in range(60):
        reply = await hub.ask(5_000, key=f"key-{turn}")
        for _ in range(turn % 12):
            await asyncio.sleep(0)
        if turn % 12 == 11:
            await some(reply, 1)
        reply.close()
    await eventually(hub.idle)
    for reply in [await hub.ask(10, key=f"key-{turn}") for turn in range(PLACES)]:
        assert_whole(await rest(reply), 10)


async def test_a_deadline_ends_what_runs_and_what_waits(
    valkey_url: str, upstream: Upstream
) -> None:
    async with running(valkey_url, upstream, limit=1.0) as hub:
        asked = [await hub.ask(5_000) for _ in range(PLACES + 1)]
        ended = await asyncio.gather(*map(rest, asked))
        for items in ended:
            assert isinstance(items[-1], Failed)
            assert items[-1].code == "request_timeout"
        assert len(text(ended[-1])) < len(text(ended[0])) / 4


async def test_a_full_queue(hub: Hub) -> None:
    asked = [await hub.ask(5_000, key=f"k{n}") for n in range(PLACES)]
    for reply in asked:
        await some(reply, 1)
    asked += [await hub.ask(50, key=f"k{n}") for n in range(16)]
    with pytest.raises(QueueFull) as full:
        await hub.ask(50)
    assert full.value.retry_after
    for reply in asked:
        reply.close()


async def test_a_worker_that_stops_hands_its_jobs_on(valkey_url: str, upstream: Upstream) -> None:
    async with running(valkey_url, upstream) as hub:
        asked = [await hub.ask(200) for _ in range(PLACES)]
        begun = [await some(reply, 20) for reply in asked]
        await hub.lane()
        await hub.stop_lane(hub.lanes[0])
        for before, reply in zip(begun, asked, strict=True):
            assert_whole(before + await rest(reply), 200)


async def test_a_worker_that_is_cut_off_loses_its_jobs_to_another(
    valkey_url: str, upstream: Upstream
) -> None:
    async with running(valkey_url, upstream, lanes=2) as hub:
        reply = await hub.ask(1_500)
        before = await some(reply, 20)
        (owner,) = [lane for lane in hub.lanes if lane._running]
        (other,) = [lane for lane in hub.lanes if not lane._running]
        owner._lines.models.clear()  # it hears of nothing new
        async with asyncio.timeout(30):
            while not other._running:
                # Again, as the owner may have renewed it before the other looked.
                await hub.take_lease_away(reply)
                await asyncio.sleep(0.1)
        assert_whole(before + await rest(reply), 1_500)
        assert not owner._running


async def test_a_worker_takes_up_its_own_job_when_its_lease_ran_out(hub: Hub) -> None:
    """As after it stood still for longer than a lease."""
    reply = await hub.ask(600)
    before = await some(reply, 20)
    await hub.take_lease_away(reply)
    middle = await some(reply, 60)
    assert reply.producer == (hub.lanes[0].name, 2)
    await hub.take_lease_away(reply)
    assert_whole(before + middle + await rest(reply), 600)
    assert served(hub.lanes[0]) == 0


async def test_two_workers_share_one_queue(valkey_url: str, upstream: Upstream) -> None:
    async with running(valkey_url, upstream, lanes=2) as hub:
        await hub.load(hub.lanes[1], "m")
        began = time.monotonic()
        asked = [await hub.ask(50, key=f"k{n}") for n in range(PLACES * 2)]
        for items in await asyncio.gather(*map(rest, asked)):
            assert_whole(items, 50)
        producers = [reply.producer[0] for reply in asked if reply.producer]
        assert {producers.count(lane.name) for lane in hub.lanes} == {PLACES}
        assert time.monotonic() - began < 1 + POLL_SECONDS


async def test_two_gateways_share_one_worker(valkey_url: str, upstream: Upstream) -> None:
    async with running(valkey_url, upstream, dispatches=2) as hub:
        one, two = hub.dispatches
        going, ending = await hub.ask(300, dispatch=two), await hub.ask(5_000, dispatch=one)
        before = await some(going, 10)
        await some(ending, 10)
        one.hurry()
        await one.stop()
        failed = (await rest(ending))[-1]
        assert isinstance(failed, Failed)
        assert failed.code == "shutting_down"
        assert_whole(before + await rest(going), 300)


async def test_jobs_of_a_gateway_that_vanished_hold_nobody_up(
    valkey_url: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "GRACE", 0.3)
    async with running(valkey_url, upstream, dispatches=2) as hub:
        dead, alive = hub.dispatches
        orphans = [await hub.ask(5_000, dispatch=dead, key=f"k{n}") for n in range(PLACES + 12)]
        await some(orphans[0], 1)
        dead._replies.clear()
        await dead._reader.stop(hub.link)
        began = time.monotonic()
        assert_whole(await rest(await hub.ask(10, dispatch=alive, service="batch")), 10)
        assert time.monotonic() - began < 3 * 0.3 + 1


async def test_connections_that_break_cost_no_token(hub: Hub) -> None:
    asked = [await hub.ask(300) for _ in range(PLACES)]
    begun = [await some(reply, 20) for reply in asked]
    for _ in range(3):
        await hub.link.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        for items, reply in zip(begun, asked, strict=True):
            items += await some(reply, 20)
    for before, reply in zip(begun, asked, strict=True):
        assert_whole(before + await rest(reply), 300)


async def test_a_server_that_forgets_everything_costs_no_token(hub: Hub) -> None:
    asked = [await hub.ask(300) for _ in range(PLACES + 1)]
    begun = [await some(reply, 20) for reply in asked[:PLACES]]
    await hub.link.call("FLUSHALL")
    for before, reply in zip([*begun, []], asked, strict=True):
        assert_whole(before + await rest(reply), 300)


async def test_a_question_that_is_lost_is_asked_again(hub: Hub) -> None:
    """The answer goes to a list that is emptied before the worker reads it."""
    lane = hub.lanes[0]
    reply = await hub.ask(300)
    before = await some(reply, 20)
    listening, lost = lane._listening, [True]
    obey = listening._obey
    listening._obey = lambda control: lost.pop() if lost else obey(control)  # type: ignore[assignment]
    await hub.take_lease_away(reply)
    assert_whole(before + await rest(reply), 300)
    assert not lost


async def test_a_job_tried_too_often_fails(hub: Hub) -> None:
    reply = await hub.ask(600)
    await some(reply, 5)
    await hub.link.call("SET", keys.RETRY + reply.task.id, hub.lanes[0].max_tries)
    await hub.take_lease_away(reply)
    failed = (await rest(reply))[-1]
    assert isinstance(failed, Failed)
    assert "failed 5 times" in failed.message


async def test_a_watch_that_finds_redis_gone_goes_on(
    hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    dispatch = hub.dispatches[0]
    reply = await hub.ask(300)
    await some(reply, 5)
    await ending.abort(hub.link, keys.queue("m"), reply.task.id)
    await eventually(hub.idle)
    reply.vanished, reply.heard = 1, 0.0
    await dispatch._link.stop()
    await eventually(lambda: not dispatch._link.is_open)
    await eventually(lambda: "cannot watch" in capsys.readouterr().out)
    await dispatch._link.start()
    assert text(await rest(reply)).endswith(" t299")
    assert {task.get_name() for task in dispatch._tasks if task.done()} == {"meet"}
