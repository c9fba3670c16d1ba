"""The way of usage events to the database, as one gateway keeps and sees it."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import hiredis

from gateway.record import Record
from gateway.writer import Writer, behind
from shared import ids, keys, log
from shared.clock import Clock, SystemClock
from shared.errors import Unavailable
from shared.metrics import Gauge, Metric, Total
from shared.resp import Link, Lost
from shared.settings import Settings
from shared.wire.usage import UsageEvent, decode

LOOK = 1.0
"""Seconds between two looks at how much waits."""

SKEW_MS = 60_000
"""How far the clock of Redis may be behind a gateway's."""
PAGE = 2_000
PAGES = 20
"""A look for one event ends after so many pages of the stream."""

logger = log.get("pipeline")


class Backlog(NamedTuple):
    """`lost`: events that found the stream full since Redis was emptied last."""

    events: int = 0
    seconds: float = 0.0
    """How old the oldest is."""
    lost: int = 0


class Pipeline:
    """One per gateway process; `run` until cancelled."""

    def __init__(self, settings: Settings, record: Record, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._link = Link(settings.redis, "ledger")
        self._record = record
        self.writer = Writer(settings.postgres, self._link, settings.usage_months, self._clock)
        self.backlog = Backlog()

    async def run(self) -> None:
        await self._link.start()
        try:
            await asyncio.gather(self.writer.run(), self._watch())
        finally:
            await self._link.stop()

    async def find(self, request_id: str) -> UsageEvent | None:
        """An event that is still on its way, as far as one can look. Raises Unavailable."""
        since = max(0, ids.wall_ms(request_id) - SKEW_MS)
        wanted, start = request_id.encode(), f"{since}-0"
        try:
            for _ in range(PAGES):
                page = await self._link.call("XRANGE", keys.USAGE, start, "+", "COUNT", PAGE)
                for _, fields in page:
                    if wanted in fields[1]:
                        return decode(fields[1])
                if len(page) < PAGE:
                    return None
                start = behind(page[-1][0])
        except (Lost, hiredis.HiredisError) as error:
            raise Unavailable(
                "It cannot be looked up right now: Redis does not answer.", retry_after=2
            ) from error
        return None

    def metrics(self) -> list[Metric]:
        """What there is to see of it."""
        writer, record = self.writer, self._record
        return [
            Gauge(
                "aihub_usage_waiting_events",
                "Usage events on their way to the database.",
                lambda: {(): float(self.backlog.events)},
            ),
            Gauge(
                "aihub_usage_oldest_seconds",
                "How long the oldest of them has been on its way.",
                lambda: {(): self.backlog.seconds},
            ),
            Gauge(
                "aihub_usage_unsent_events",
                "Usage events that this gateway has not sent yet.",
                lambda: {(): float(len(record))},
            ),
            Gauge(
                "aihub_usage_writer",
                "1 in the gateway that writes the ledger.",
                lambda: {(): float(writer.writing)},
            ),
            Total(
                "aihub_usage_written_total",
                "Usage events that this gateway wrote to the database.",
                lambda: {(): float(writer.written)},
            ),
            Total(
                "aihub_usage_lost_total",
                "Usage events that are in the log only, by why.",
                self._lost,
                ("why",),
            ),
        ]

    def _lost(self) -> dict[tuple[str, ...], float]:
        return {
            ("stream_full",): self.backlog.lost,
            ("gateway_full",): self._record.lost,
            ("unwritable",): self.writer.unwritable,
        }

    async def _watch(self) -> None:
        while True:
            try:
                self.backlog = await self._look()
            except (Lost, hiredis.HiredisError) as error:
                logger.debug("the backlog cannot be seen", error=str(error))
            await asyncio.sleep(LOOK)

    async def _look(self) -> Backlog:
        events, lost, first = await asyncio.gather(
            self._link.call("XLEN", keys.USAGE),
            self._link.call("GET", keys.USAGE_LOST),
            self._link.call("XRANGE", keys.USAGE, "-", "+", "COUNT", 1),
        )
        since = int(first[0][0].partition(b"-")[0]) if first else self._clock.wall_ms()
        return Backlog(events, max(0.0, (self._clock.wall_ms() - since) / 1000), int(lost or 0))
