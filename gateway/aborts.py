"""Jobs that nobody waits for any more: taken off the queue, or their worker told."""

from __future__ import annotations

import asyncio

import hiredis

from gateway.record import Record
from gateway.reply import Reply
from gateway.use import unclaimed
from shared import ending, keys, log
from shared.clock import Clock
from shared.errors import ClientClosed
from shared.resp import Link, Lost

logger = log.get("aborts")


class Aborts:
    """Bounded by the replies that are open."""

    def __init__(self, link: Link, record: Record, clock: Clock) -> None:
        self._link = link
        self._record = record
        self._clock = clock
        self._under_way: set[asyncio.Task[None]] = set()

    def begin(self, reply: Reply) -> None:
        """In the background; what is known of the job's use is written down."""
        abort = asyncio.create_task(self._abort(reply))
        self._under_way.add(abort)
        abort.add_done_callback(self._under_way.discard)

    async def drain(self, seconds: float) -> None:
        """Waits for those under way, at most so long."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=seconds)

    async def _abort(self, reply: Reply) -> None:
        task, origin = reply.task, reply.task.origin
        ended = reply.failed or ClientClosed("The client left.").failed()
        used = None
        if origin is not None:
            wall_ms, got = self._clock.wall_ms(), reply.progress().values()
            used = unclaimed(task, origin, ended.status, ended.code, wall_ms, got)
        try:
            there = await ending.abort(self._link, keys.queue(task.model), task.id, used)
            if not there and used is not None:
                # It is lost, or just ended: then its event is written already and this one not.
                self._record.add(used)
        except (Lost, hiredis.HiredisError) as error:
            # The worker notices by itself: nobody asks for this reply's items any more.
            logger.warning("cancel not delivered", job=task.id, error=str(error))
