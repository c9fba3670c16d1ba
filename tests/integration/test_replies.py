"""The way back on a real server: nothing lost, nothing twice, nothing without a bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared import outbox, replies
from shared.outbox import BATCH, BATCH_BYTES
from shared.replies import ReplyReader
from shared.wire.event import Batch, Entry, Started, Usage, Vectors, Where, encode
from tests.integration.reply_way import GATEWAY, STREAM, Way, done, token


@pytest.fixture
async def way(valkey_url: str) -> AsyncIterator[Way]:
    way = Way(valkey_url)
    await way.start()
    yield way
    await way.stop()


async def test_items_arrive_in_order_and_share_batches(way: Way) -> None:
    for index in range(100):
        way.put(*(token(stream, index) for stream in range(20)))
    await way.inbox.until(lambda: way.inbox.entries == 2_000)
    assert way.inbox.next == dict.fromkeys(range(20), 100)
    assert way.inbox.batches < 30


async def test_more_than_a_batch_holds(way: Way) -> None:
    way.put(*(token(1, index) for index in range(BATCH * 3 + 1)))
    await way.inbox.until(lambda: way.inbox.next.get(1) == BATCH * 3 + 1)
    assert way.inbox.batches >= 4


async def test_the_last_item_does_not_wait(way: Way) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    way.put(Entry(1, 1, 0, Started(0.0)), token(1, 1), done(1, 2))
    await way.inbox.until(lambda: way.inbox.next.get(1) == 3)
    assert way.inbox.batches == 1
    assert loop.time() - began < replies.PATIENCE


async def test_a_beginning_waits_for_content_and_holds_nobody_up(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "PATIENCE", 5.0)
    way.put(*(token(1, index) for index in range(2)))
    await way.inbox.until(lambda: way.inbox.next.get(1) == 2)
    way.put(Entry(2, 1, 0, Started(0.0)))
    way.put(token(1, 2))
    await way.inbox.until(lambda: way.inbox.next.get(1) == 3, within=2)
    assert way.inbox.next[2] == 1


async def test_a_stream_that_vanished_is_made_again_and_filled(way: Way) -> None:
    way.put(token(1, 0), token(1, 1), token(2, 0), done(2, 1))
    await way.inbox.until(lambda: way.inbox.next == {1: 2, 2: 2})
    way.inbox.next.clear()
    await way.other.call("DEL", STREAM)
    way.put(token(1, 2))
    await way.inbox.until(lambda: way.inbox.next == {1: 3, 2: 2})
    assert not way.gone


async def test_a_server_that_forgot_everything_loses_nothing(way: Way) -> None:
    way.put(token(1, 0), token(1, 1))
    await way.inbox.until(lambda: way.inbox.next == {1: 2})
    way.inbox.next.clear()
    await way.other.call("FLUSHALL")
    way.put(token(1, 2), done(1, 3))
    await way.inbox.until(lambda: way.inbox.next == {1: 4})


async def test_connections_that_break_lose_nothing(way: Way) -> None:
    for index in range(300):
        way.put(token(1, index), token(2, index))
        if index % 50 == 49:
            await way.other.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    way.put(done(1, 300), done(2, 300))
    await way.inbox.until(lambda: way.inbox.next == {1: 301, 2: 301})


async def test_a_resend_is_everything_that_is_kept(way: Way) -> None:
    way.put(token(1, 0), token(2, 0), done(2, 1), token(3, 0))
    await way.inbox.until(lambda: way.inbox.entries == 4)
    way.writer.forget(GATEWAY, 3)
    way.inbox.next.clear()
    way.writer.resend(GATEWAY)
    await way.inbox.until(lambda: way.inbox.next == {1: 1, 2: 2})


async def test_a_question_is_not_kept(way: Way) -> None:
    way.put(Entry(1, 2, -1, Where()))
    await way.inbox.until(lambda: way.inbox.asked == 1)
    way.put(token(2, 0))
    way.writer.resend()
    await way.inbox.until(lambda: way.inbox.next == {2: 1})
    assert way.inbox.asked == 1


async def test_a_dead_gateway_is_noticed_once_and_then_at_once(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "GRACE", 0.2)
    way.put(token(1, 0))
    await way.inbox.until(lambda: way.inbox.next == {1: 1})
    await way.reader.stop(way.other)
    loop = asyncio.get_running_loop()
    way.put(token(1, 1))
    await asyncio.wait_for(way.died.wait(), 5)
    way.died.clear()
    monkeypatch.setattr(replies, "GRACE", 0.0)
    began = loop.time()
    way.writer.sweep()
    way.put(Entry(2, 1, 0, Started(0.0)), token(2, 1))
    await asyncio.wait_for(way.died.wait(), 5)
    assert loop.time() - began < replies.RETRY
    assert way.gone == [GATEWAY, GATEWAY]
    monkeypatch.setattr(replies, "REMEMBERED", 0.0)
    way.writer.sweep()
    assert not way.writer._outboxes


async def test_a_gateway_that_comes_back_is_served_again(
    way: Way, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "GRACE", 0.1)
    await way.reader.stop(way.other)
    way.put(token(1, 0))
    await asyncio.wait_for(way.died.wait(), 5)
    way.reader = ReplyReader(valkey_url, GATEWAY, way.inbox.take)
    await way.reader.start()
    way.put(token(2, 0), token(2, 1))
    await way.inbox.until(lambda: way.inbox.next == {2: 2})


async def test_a_reader_that_is_behind_is_waited_for(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("LOOK", 1), ("BEHIND", 3), ("CAUGHT_UP", 2), ("STEP", 0.0)):
        monkeypatch.setattr(replies, name, value)
    monkeypatch.setattr(outbox, "BATCH", 1)
    assert way.reader._task is not None
    way.reader._task.cancel()
    way.put(*(token(1, index) for index in range(10)))
    await asyncio.wait_for(way.flowed.wait(), 5)
    assert (way.flow, way.writer.flows(GATEWAY)) == ([False], False)
    assert way.writer.flows("another")
    way.flowed.clear()
    await way.writer.drained(5)
    way.reader._task = asyncio.create_task(way.reader._read())
    await asyncio.wait_for(way.flowed.wait(), 5)
    assert (way.flow, way.writer.flows(GATEWAY)) == ([False, True], True)
    assert way.inbox.next == {1: 10}


async def test_what_was_read_is_trimmed(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "TRIM", 8)
    monkeypatch.setattr(outbox, "BATCH", 1)
    way.put(*(token(1, index) for index in range(200)))
    await way.inbox.until(lambda: way.inbox.next == {1: 200})
    assert await way.other.call("XLEN", STREAM) <= 8


async def test_a_batch_that_cannot_be_read_ends_nothing(way: Way) -> None:
    await way.other.call("XADD", STREAM, "*", "b", b"\xc1 not a batch")
    way.put(token(1, 0))
    await way.inbox.until(lambda: way.inbox.next == {1: 1})


async def test_what_ended_is_kept_within_bounds(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "KEPT_REPLIES", 5)
    for stream in range(20):
        way.put(done(stream, 0))
    kept = way.writer._outboxes[GATEWAY]
    assert list(kept.ended) == [15, 16, 17, 18, 19]
    monkeypatch.setattr(outbox, "KEPT_BYTES", 3_000_000)
    for stream in range(20, 30):
        way.put(Entry(stream, 1, 0, Vectors(1, 1, bytes(1_000_000), Usage())))
    assert list(kept.ended) == [28, 29]
    assert kept.kept == sum(ended.size for ended in kept.ended.values()) <= 3_000_000
    way.put(Entry(40, 1, 0, Vectors(1, 1, bytes(9_000_000), Usage())))
    assert list(kept.ended) == [40]
    monkeypatch.setattr(replies, "KEPT", 0.0)
    await way.writer.drained(5)
    way.writer.sweep()
    assert not way.writer._outboxes


async def test_no_command_is_larger_than_a_server_takes(way: Way) -> None:
    """All that is kept goes out again in pieces, not in one."""
    each = Vectors(1, 1, bytes(3_000_000), Usage())
    way.put(*(Entry(stream, 1, 0, each) for stream in range(8)))
    await way.inbox.until(lambda: len(way.inbox.next) == 8)
    assert way.inbox.batches >= 4
    box = outbox.Outbox(GATEWAY)
    box.pending = [Entry(stream, 1, 0, each) for stream in range(8)]
    sizes = []
    while box.pending:
        sizes.append(len(box.next_batch("wk-1")))
    assert max(sizes) <= BATCH_BYTES
    box.pending = [Entry(1, 1, 0, Vectors(1, 1, bytes(BATCH_BYTES), Usage()))]
    assert len(box.next_batch("wk-1")) > BATCH_BYTES
    assert not box.pending


async def test_out_of_memory_is_waited_out(way: Way) -> None:
    """The server refuses writes; the items stay with the worker until it takes them."""
    used = (await way.other.call("CONFIG", "GET", "maxmemory"))[1]
    await way.other.call("CONFIG", "SET", "maxmemory", 1)
    try:
        way.put(token(1, 0), token(1, 1))
        assert way.writer._outboxes[GATEWAY].sending
        await asyncio.wait_for(until_stale(way), 5)
        way.put(token(1, 2), done(1, 3))
    finally:
        await way.other.call("CONFIG", "SET", "maxmemory", used)
    await way.inbox.until(lambda: way.inbox.next == {1: 4})
    assert not way.gone


async def until_stale(way: Way) -> None:
    """Asks the server until it has refused what was put before."""
    while not way.writer._outboxes[GATEWAY].stale:
        await way.other.call("PING")


async def test_a_whole_batch_is_one_entry_of_the_stream(way: Way) -> None:
    assert way.reader._task is not None
    way.reader._task.cancel()
    entries = [token(1, 0), token(1, 1), done(1, 2)]
    way.put(*entries)
    await way.writer.drained(5)
    found = await way.other.call("XRANGE", STREAM, "-", "+")
    assert found[-1][1] == [b"b", encode(Batch("wk-1", entries))]
