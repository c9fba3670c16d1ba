"""Events of a job as they come, as server-sent events: those there are, then the new ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec

from gateway.exchange import Exchange, Presence
from gateway.routes.admin.desk import found, reachable
from gateway.routes.fine_tuning import told
from gateway.tuned import Tuned
from shared.db import Pool
from shared.errors import RateLimited
from shared.store import fine_tuning as store
from shared.wire.openai.fine_tuning import ENDED

AT_ONCE = 200
"""Events of one look."""
LOOK = 2.0
"""Seconds after which it is looked again, and the connection kept from being thought dead."""
LONGEST = 86_400.0
MOST_STREAMS = 128
"""Of one gateway."""

encode = msgspec.json.Encoder().encode


class EventStream:
    def __init__(self, pool: Callable[[], Pool], tuned: Tuned) -> None:
        self._pool = pool
        self._tuned = tuned

    async def serve(self, exchange: Exchange, id_: str, after: int) -> None:
        """Until the job has ended, or the client has gone."""
        if self._tuned.followers >= MOST_STREAMS:
            raise RateLimited("Too many streams of events are open.", retry_after=10)
        async with reachable(), self._pool().connection() as connection:
            job = await store.find(connection, id_, exchange.account.project)
        found(job, "fine-tuning job", id_)
        with Presence(exchange, LONGEST):
            await exchange.open_stream()
            async for part in self._parts(id_, after):
                await exchange.write(part)
            await exchange.write(b"data: [DONE]\n\n", last=True)

    async def _parts(self, id_: str, after: int) -> AsyncIterator[bytes]:
        with self._tuned.following() as moved:
            while True:
                moved.clear()
                async with reachable(), self._pool().connection() as connection:
                    # Before the events: the last one of a job comes with its end.
                    job = await store.find(connection, id_)
                    rows = await store.following(connection, id_, AT_ONCE, after)
                for row in rows:
                    after = row.number
                    yield b"data: " + encode(told.event(row)) + b"\n\n"
                if len(rows) == AT_ONCE:
                    continue
                if job is None or job.status in ENDED:
                    return
                try:
                    async with asyncio.timeout(LOOK):
                        await moved.wait()
                except TimeoutError:
                    yield b": " + (job.status if job else "gone").encode() + b"\n\n"
