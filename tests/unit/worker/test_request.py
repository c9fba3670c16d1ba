"""One job's run: asking where it stands, its deadline, and how it is stopped."""

from __future__ import annotations

import asyncio

import pytest

from shared.wire.event import Done, Failed, Position, Text, Usage
from tests.unit.worker.scripted import Place, Scripted, breaks, says
from worker import request as request_module
from worker.engines.base import Generation, Sink
from worker.functions import chat
from worker.request import Request


class Source:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


def place() -> Place:
    return Place(Scripted(says("a")))


async def started(request: Request) -> asyncio.Task[None]:
    """Run by a task, as a lane does, up to its first wait."""
    task = asyncio.create_task(chat({"request": request}))
    request.task = task
    await asyncio.sleep(0)
    return task


async def test_items_are_numbered_and_the_last_one_ends() -> None:
    here = place()
    request = here.request()
    request.emit(Text(0, "a"))
    assert not request.over
    request.emit(Done(Usage()))
    assert request.over
    assert [(e.stream, e.attempt, e.index) for e in here.entries()] == [(7, 1, 0), (7, 1, 1)]


async def test_a_first_attempt_does_not_ask() -> None:
    position = await place().request().position()
    assert (position.index, position.choices) == (0, {})


async def test_a_later_attempt_asks_until_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_module, "ASK_AGAIN", 0.001)
    monkeypatch.setattr(request_module, "WAIT_FOR_POSITION", 10_000)
    here = place()
    asked: asyncio.Queue[int] = asyncio.Queue()
    monkeypatch.setattr(here.writer, "put", lambda gateway, entry: asked.put_nowait(entry.index))
    request = here.request(attempt=2)
    waiting = asyncio.create_task(request.position())
    assert [await asked.get() for _ in range(3)] == [-1, -1, -1]
    request.tell_position(Position("job-1", 1, 3, {}))
    await asyncio.sleep(0)
    assert not waiting.done()
    request.tell_position(Position("job-1", 2, 4, {}))
    request.tell_position(Position("job-1", 2, 9, {}))
    assert (await waiting).index == 4


async def test_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_module, "ASK_AGAIN", 0.001)
    request = place().request(attempt=2)
    with pytest.raises(asyncio.CancelledError):
        await request.position()
    assert request.reason == "cancelled"


async def test_what_was_tried_too_often_fails_behind_what_was_delivered() -> None:
    here = place()
    request = here.request(attempt=6)
    request.tell_position(Position("job-1", 6, 12, {}))
    await request.give_up()
    (entry,) = here.entries()
    assert entry.index == 12
    assert isinstance(entry.item, Failed)


async def test_a_deadline_that_passed_while_it_waited() -> None:
    here = place()
    await (await started(here.request(seconds=-1)))
    failed = here.items()[-1]
    assert isinstance(failed, Failed)
    assert (failed.status, failed.code) == (504, "request_timeout")


async def test_a_bug_is_an_error_of_the_reply() -> None:
    here = Place(Scripted(breaks(ZeroDivisionError())))
    await (await started(here.request()))
    failed = here.items()[-1]
    assert isinstance(failed, Failed)
    assert failed.message == "Internal error: ZeroDivisionError."


async def test_stopped_while_it_runs() -> None:
    here = place()
    request = here.request(attempt=2)
    task = await started(request)
    request.stop("released")
    request.stop("cancelled")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert request.reason == "released"
    assert not request.over


async def test_stopped_before_it_began() -> None:
    """A cancelled task that never ran would run none of its clean-up: the run is told instead."""
    request = place().request()
    request.stop("cancelled")
    assert request.reason == "cancelled"


async def test_what_breaks_while_it_is_stopped_is_not_told() -> None:
    """Else a client would get an error for a job that another worker goes on with."""

    begun = asyncio.Event()

    async def stubborn(generation: Generation, sink: Sink) -> Usage:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError from None
        return Usage()

    here = Place(Scripted(stubborn))
    request = here.request(n=2)
    task = await started(request)
    await begun.wait()
    request.stop("released")
    await asyncio.wait([task])
    assert not request.over
    assert not any(isinstance(item, Failed) for item in here.items())


async def test_flow_reaches_what_is_attached_now_or_later() -> None:
    request, early, late = place().request(), Source(), Source()
    request.attach(early)
    request.set_flow(False)
    request.attach(late)
    request.detach(early)
    request.set_flow(True)
    assert early.calls == ["pause"]
    assert late.calls == ["pause", "resume"]
