"""Where replies stand that have waited for a while, and what they can expect."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from gateway.reply import Reply
from gateway.sightings import Sightings
from gateway.waiting import Outlook, expect, outlook
from shared import keys, line
from shared.clock import Clock
from shared.resp import Link

A_WHILE = 1.0
"""Seconds a reply has waited before it is looked up at all."""
MOST_LOOKED_UP = 256
"""Places in line asked of Redis in one second; with more replies each has its turn."""


class Line:
    """`look` is to be called once a second, when new reports were read."""

    def __init__(
        self, link: Link, replies: Mapping[int, Reply], sightings: Sightings, clock: Clock
    ) -> None:
        self._link = link
        self._replies = replies
        self._sightings = sightings
        self._clock = clock

    async def look(self) -> None:
        """Sets `ahead`, `waiting` and `expected` of replies; raises Lost or HiredisError."""
        now = self._clock.now()
        waiting = [r for r in self._replies.values() if waits(r) and now - r.opened >= A_WHILE]
        if not waiting:
            return
        await self._look_up(heapq.nsmallest(MOST_LOOKED_UP, waiting, key=lambda r: r.looked), now)
        outlooks: dict[tuple[str, str | None], Outlook] = {}
        for reply in waiting:
            if reply.ahead is None or not waits(reply):
                reply.waiting = None
                continue
            about = (reply.task.model, reply.worker)
            if about not in outlooks:
                outlooks[about] = self.outlook(reply.lane, *about)
            reply.waiting = expect(outlooks[about], reply.ahead)
            if reply.expected is None:
                reply.expected = now - reply.opened + reply.waiting.seconds

    def outlook(self, lane: str, model: str, called: str | None) -> Outlook:
        return outlook(self._sightings.lane(lane), model, called, self._clock.wall_ms())

    async def _look_up(self, replies: list[Reply], now: float) -> None:
        models: dict[str, list[Reply]] = {}
        for reply in replies:
            models.setdefault(reply.task.model, []).append(reply)
        for model, those in models.items():
            ids = [reply.task.id for reply in those]
            found = await line.standing(self._link, keys.queue(model), ids)
            for reply, ahead in zip(those, found, strict=True):
                reply.ahead, reply.looked = ahead, now


def waits(reply: Reply) -> bool:
    """Whether no worker has begun with it."""
    return not reply.next and not reply.ended
