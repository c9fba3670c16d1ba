"""The way back on a real server: a writer, a reader, and what a gateway would have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from shared import keys
from shared.clock import SystemClock
from shared.replies import ReplyReader, ReplyWriter
from shared.resp import Link
from shared.wire.event import Batch, Done, Entry, Text, Usage, Where

GATEWAY = "gw-1"
STREAM = keys.reply(GATEWAY)


def token(stream: int, index: int) -> Entry:
    return Entry(stream, 1, index, Text(0, f" t{index}"))


def done(stream: int, index: int) -> Entry:
    return Entry(stream, 1, index, Done(Usage(1, index)))


class Inbox:
    """What a gateway would have: per stream the items up to the first that is missing."""

    def __init__(self) -> None:
        self.batches = 0
        self.entries = 0
        self.asked = 0
        self.next: dict[int, int] = {}
        self._came = asyncio.Event()

    def take(self, batch: Batch) -> None:
        self.batches += 1
        for entry in batch.entries:
            self.entries += 1
            if isinstance(entry.item, Where):
                self.asked += 1
            elif entry.index == self.next.setdefault(entry.stream, 0):
                self.next[entry.stream] += 1
        self._came.set()

    async def until(self, there: Callable[[], bool], within: float = 10) -> None:
        async with asyncio.timeout(within):
            while not there():
                self._came.clear()
                await self._came.wait()


class Way:
    """A writer, a reader, and a link of the test's own."""

    def __init__(self, url: str) -> None:
        self.inbox = Inbox()
        self.gone: list[str] = []
        self.flow: list[bool] = []
        self.flowed = asyncio.Event()
        self.died = asyncio.Event()
        self.other = Link(url, "test")
        self.link = Link(url, "writer", self._opened)
        self.writer = ReplyWriter(self.link, "wk-1", SystemClock(), self._gone, self._flow)
        self.reader = ReplyReader(url, GATEWAY, self.inbox.take)

    async def start(self) -> None:
        for link in (self.link, self.other):
            await link.start()
            await link.wait_open(5)
        await self.reader.start()

    async def stop(self) -> None:
        await self.reader.stop(self.other)
        await self.link.stop()
        await self.other.stop()

    def put(self, *entries: Entry) -> None:
        for entry in entries:
            self.writer.put(GATEWAY, entry)

    def _opened(self) -> None:
        self.writer.resend()

    def _gone(self, gateway: str) -> None:
        self.gone.append(gateway)
        self.died.set()

    def _flow(self, gateway: str, flows: bool) -> None:
        self.flow.append(flows)
        self.flowed.set()
