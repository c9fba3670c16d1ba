"""An engine that does as it is told, and a request whose items stay where they can be read."""

from __future__ import annotations

import asyncio
import atexit
import json
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from shared.clock import SystemClock
from shared.errors import EngineFailed, HubError
from shared.queue import Claimed
from shared.replies import ReplyWriter
from shared.resp import Link
from shared.wire.event import Entry, Item, Usage, Vectors
from shared.wire.node import LoadProgress
from shared.wire.task import Kind, Task
from tests.loops import around
from worker.batches import Batches
from worker.engines.base import Generation, Sink
from worker.loop import Loop
from worker.meter import Meter
from worker.places import Grant
from worker.request import Request

Play = Callable[[Generation, Sink], Awaitable[Usage]]


class Scripted:
    """A base.Engine whose generations are `plays`, one after the other, the last one for ever.

    `starts` are what its starts raise, None for one that succeeds; the last one stands too.
    """

    can_sleep = False

    def __init__(self, *plays: Play, starts: tuple[Exception | None, ...] = (None,)) -> None:
        self.asked: list[Generation] = []
        self.started = 0
        self.loading: LoadProgress | None = None
        self._plays = plays
        self._starts = starts
        self._over = asyncio.Event()
        self._over.set()

    @property
    def alive(self) -> bool:
        return not self._over.is_set()

    async def start(self) -> None:
        error = self._starts[min(self.started, len(self._starts) - 1)]
        self.started += 1
        if error is not None:
            raise error
        self._over.clear()

    async def stop(self) -> None:
        self._over.set()

    def progress(self) -> LoadProgress | None:
        return self.loading

    def pids(self) -> list[int]:
        return []

    async def ended(self) -> None:
        await self._over.wait()

    async def generate(self, generation: Generation, sink: Sink) -> Usage:
        play = self._plays[min(len(self.asked), len(self._plays) - 1)]
        self.asked.append(generation)
        return await play(generation, sink)

    async def embed(self, inputs: list[str] | list[list[int]], dimensions: int | None) -> Vectors:
        raise EngineFailed("no embeddings here")


def journals() -> Path:
    """A folder that goes with this process."""
    folder = mkdtemp(prefix="aihub-journal-")
    atexit.register(shutil.rmtree, folder)
    return Path(folder)


class NoQueue:
    """A worker.loop.Port: nobody waits but those whose engine died."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def admit(self, model: str, count: int) -> None:
        raise AssertionError(f"nobody waits for {model}")

    def refuse(self, model: str, error: HubError, *, elsewhere: bool) -> None:
        self._loop.turn_away(model, error)

    def changed(self) -> None:
        return None


class Place:
    """Where a request runs: the real writer on a link that was never opened."""

    def __init__(self, engine: Scripted) -> None:
        self.writer = ReplyWriter(
            Link("redis://127.0.0.1:1", "none"),
            "wk-1",
            SystemClock(),
            lambda gateway: None,
            lambda gateway, flows: None,
        )
        self.loop = around({"m": engine}, journals(), defaults={"temperature": 0.5})
        self.loop.open(NoQueue(self.loop), [])

    def request(
        self,
        *,
        attempt: int = 1,
        streamed: bool = True,
        kind: Kind = "chat",
        seconds: float = 60,
        **body: Any,
    ) -> Request:
        given = {"model": "m", "messages": [{"role": "user", "content": "?"}], **body}
        deadline = int((time.time() + seconds) * 1000)
        task = Task(
            *("job-1", kind, "m", "gw-1", 7, streamed, json.dumps(given).encode()),
            *("key", "interactive", deadline),
        )
        claimed = Claimed("aihub:queue:m", "job-1", attempt, task, b"")
        clock = SystemClock()
        batches = Batches(self.loop.residents, False, lambda: None, clock)
        meter = Meter(claimed, None, batches, clock)
        return Request(claimed, "wk-1", self.writer, self.loop, Grant("m", -1), clock, meter)

    def entries(self) -> list[Entry]:
        outbox = self.writer._outboxes["gw-1"]
        return outbox.ended[7].entries if 7 in outbox.ended else outbox.open.get(7, [])

    def items(self) -> list[Item]:
        return [entry.item for entry in self.entries()]


def says(*pieces: str, reason: str = "stop", prompt: int = 5) -> Play:
    """A whole choice; its completion counts what was said before too."""

    async def play(generation: Generation, sink: Sink) -> Usage:
        for piece in pieces:
            sink.text(piece)
            await asyncio.sleep(0)
        sink.finish(reason)
        return Usage(prompt, generation.pieces + len(pieces))

    return play


def breaks(error: Exception, *pieces: str, reason: str | None = None) -> Play:
    """Some of a choice, or all of it, then an error."""

    async def play(generation: Generation, sink: Sink) -> Usage:
        for piece in pieces:
            sink.text(piece)
        if reason is not None:
            sink.finish(reason)
        await asyncio.sleep(0)
        raise error

    return play
