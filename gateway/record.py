"""Usage events of requests that never became jobs: refusals, and answers that needed no GPU."""

from __future__ import annotations

import asyncio
from collections import deque

import hiredis

from shared import log, usage_stream
from shared.resp import Link, Lost
from shared.wire.usage import UsageEvent, encode

MOST_WAITING = 65_536
"""Events that wait for Redis; the next ones are in the log only, and counted."""
BATCH = 500
EVERY = 0.05
"""Seconds between two batches."""
AGAIN = 0.5
LAST_WORDS = 2.0
"""Seconds that events may take to leave a gateway that ends."""

logger = log.get("record")


class Record:
    """`add` costs its caller no wait. An event that is sent twice is written once, by its id."""

    def __init__(self, link: Link) -> None:
        self.lost = 0
        """Events that are in the log only."""
        self._link = link
        self._waiting: deque[bytes] = deque()
        self._some = asyncio.Event()
        self._stopped = False
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, event: UsageEvent) -> None:
        """Events come here in the order in which they are written."""
        data = encode(event)
        if self._stopped or len(self._waiting) >= MOST_WAITING:
            self.lost += 1
            usage_stream.lament(data)
            return
        self._waiting.append(data)
        self._some.set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._send(), name="record")

    async def stop(self) -> None:
        """Sends what is left; what Redis does not take in time is told in the log."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            async with asyncio.timeout(LAST_WORDS):
                while self._waiting:
                    await self._batch()
        except (TimeoutError, Lost, hiredis.HiredisError) as error:
            logger.error("usage events were not sent", error=str(error), events=len(self))
        self._stopped = True
        self.lost += len(self)
        for data in self._waiting:
            usage_stream.lament(data)

    async def _send(self) -> None:
        while True:
            await self._some.wait()
            try:
                await self._batch()
                await asyncio.sleep(EVERY)
            except (Lost, hiredis.HiredisError) as error:
                logger.warning("usage events wait", error=str(error), events=len(self))
                await asyncio.sleep(AGAIN)

    async def _batch(self) -> None:
        """The oldest events; they stay here until Redis has them."""
        waiting = self._waiting
        events = [waiting[at] for at in range(min(BATCH, len(waiting)))]
        if events:
            await usage_stream.record(self._link, events)
        for _ in events:
            waiting.popleft()
        if not waiting:
            self._some.clear()
