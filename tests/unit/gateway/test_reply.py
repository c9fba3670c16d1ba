"""Each item once and in order, whatever arrives in whatever order from whomever."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.reply import LARGEST_BACKLOG, Reply
from shared.wire.event import (
    Answer,
    Delta,
    Done,
    Entry,
    Failed,
    Finish,
    Item,
    Progress,
    Started,
    Text,
    Usage,
)
from shared.wire.task import Task

NEVER = float("inf")


def reply(*, streamed: bool = True, closed: list[Reply] | None = None) -> Reply:
    task = Task("job-1", "chat", "m", "gw-1", 7, streamed, b"{}", "key", "interactive", 0)
    return Reply(task, "cpu", 0.0, ([] if closed is None else closed).append)


def entry(index: int, item: Item, attempt: int = 1) -> Entry:
    return Entry(7, attempt, index, item)


def token(index: int) -> Text:
    return Text(0, f" t{index}")


async def taken(reply: Reply) -> list[Item]:
    return await reply.items(NEVER)


async def test_repeats_are_dropped_and_gaps_are_told() -> None:
    one = reply()
    assert one.take("a", entry(0, Started(1.0)), 1)
    assert one.take("a", entry(0, Started(1.0)), 1)
    assert not one.take("a", entry(2, token(1)), 1)
    assert one.take("a", entry(1, token(0)), 1)
    assert one.take("a", entry(2, token(1)), 1)
    assert await taken(one) == [Started(1.0), token(0), token(1)]


async def test_the_first_attempt_needs_no_introduction_and_others_do() -> None:
    one = reply()
    assert one.take("b", entry(0, token(9), attempt=2), 1)
    assert one.next == 0
    one.take("a", entry(0, token(0)), 1)
    one.take("b", entry(1, token(9), attempt=2), 1)
    assert await taken(one) == [token(0)]
    assert one.follow("b", 2)
    one.take("a", entry(1, token(8)), 1)
    one.take("b", entry(1, token(1), attempt=2), 1)
    assert await taken(one) == [token(1)]


def test_only_the_latest_attempt_is_followed() -> None:
    one = reply()
    assert one.follow("b", 3)
    assert not one.follow("a", 2)
    assert one.producer == ("b", 3)
    assert one.follow("c", 3)
    one.take("c", entry(0, Done(Usage()), attempt=3), 1)
    assert not one.follow("d", 4)


def test_progress_is_what_was_delivered_of_each_choice() -> None:
    one = reply()
    items: list[Item] = [
        Started(1.0),
        Text(0, "a"),
        Delta(1, "{x", b"{}"),
        Text(0, "b"),
        Finish(1, "stop", Usage(3, 1)),
        Finish(2, "stop", Usage(3, 0)),
    ]
    for index, item in enumerate(items):
        one.take("a", entry(index, item), 1)
    assert one.progress() == {
        0: Progress("ab", 2),
        1: Progress("{x", 1, Usage(3, 1)),
        2: Progress("", 0, Usage(3, 0)),
    }
    assert not one.broken
    one.take("a", entry(6, Delta(0, None, b"{}")), 1)
    assert one.broken


def test_a_reply_in_one_piece_starts_afresh_in_a_later_attempt() -> None:
    one = reply(streamed=False)
    one.take("a", entry(0, Started(1.0)), 1)
    assert (one.next, one.progress()) == (1, {})
    assert one.follow("b", 2)
    one.take("b", entry(1, Answer([], Usage()), attempt=2), 1)
    assert (one.ended, one.job_over) == (True, True)


async def test_nothing_comes_behind_the_end() -> None:
    one = reply()
    one.take("a", entry(0, Done(Usage())), 1)
    one.take("a", entry(1, token(0)), 1)
    one.fail(Failed(500, "server_error", None, None, "late"))
    assert await taken(one) == [Done(Usage())]


async def test_an_error_of_the_gateway_leaves_a_job_to_be_cancelled() -> None:
    one = reply()
    one.fail(Failed(504, "server_error", None, None, "slow"))
    assert (one.ended, one.job_over) == (True, False)
    assert isinstance((await taken(one))[0], Failed)


async def test_a_reader_that_is_too_slow_is_told_so_and_the_job_goes() -> None:
    one = reply()
    for index in range(LARGEST_BACKLOG + 1):
        one.take("a", entry(index, token(index)), 1)
    (item,) = await taken(one)
    assert isinstance(item, Failed)
    assert (one.ended, one.job_over) == (True, False)


async def test_a_wait_ends_with_an_item_or_with_its_time() -> None:
    one = reply()
    now = asyncio.get_running_loop().time()
    waiting = asyncio.create_task(one.items(5))
    await asyncio.sleep(0)
    one.tick(now + 4)
    await asyncio.sleep(0)
    assert not waiting.done()
    one.tick(now + 6)
    assert await waiting == []
    waiting = asyncio.create_task(one.items(5))
    await asyncio.sleep(0)
    one.take("a", entry(0, token(0)), 1)
    assert await waiting == [token(0)]


async def test_a_reader_that_was_cancelled_loses_nothing() -> None:
    one = reply()
    waiting = asyncio.create_task(one.items(5))
    await asyncio.sleep(0)
    one.take("a", entry(0, token(0)), 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await taken(one) == [token(0)]


class Producer:
    """An attempt as a worker makes it: it asks first, then its pieces go out, some of them twice.

    `sent` is a stream whose reader may be thrown back to any earlier place, as after a resend.
    """

    def __init__(self, worker: str, attempt: int, begin: int, length: int) -> None:
        self.worker = worker
        self.sent = [entry(i, token(i), attempt) for i in range(begin, length)]
        self.sent.append(entry(length, Done(Usage(1, length)), attempt))
        self.at = 0

    def step(self, one: Reply, count: int) -> None:
        for sent in self.sent[self.at : self.at + count]:
            one.take(self.worker, sent, 1)
        self.at = min(len(self.sent), self.at + count)


steps = st.lists(
    st.tuples(st.sampled_from(["send", "drop", "resend", "retry", "old"]), st.integers(1, 6)),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(steps, st.integers(0, 25))
def test_every_item_once_in_order_whatever_happens(
    story: list[tuple[str, int]], length: int
) -> None:
    """Batches are lost and sent again, attempts take over, old ones go on unaware."""
    one = reply()
    current = Producer("w1", 1, 0, length)
    old: list[Producer] = []
    for what, count in story:
        if what == "send":
            current.step(one, count)
        elif what == "drop":
            current.at = min(len(current.sent), current.at + count)
        elif what == "resend":
            current.at = 0
        elif what == "retry" and not one.ended:
            old.append(current)
            number = len(old) + 1
            assert one.follow(f"w{number}", number)
            current = Producer(f"w{number}", number, one.next, length)
        elif old:
            old[count % len(old)].at = 0
            old[count % len(old)].step(one, 6)
    current.at = 0
    current.step(one, length + 1)
    assert one.ended
    assert one._items == [*(token(i) for i in range(length)), Done(Usage(1, length))]
    assert "".join(one.texts.get(0, [])) == "".join(f" t{i}" for i in range(length))
