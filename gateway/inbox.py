"""What workers send back, given to the replies that wait for it."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.reply import Reply
from shared import wake
from shared.clock import Clock
from shared.resp import Link
from shared.wire.event import Batch, Cancel, Position, Resend, Where


class Inbox:
    """`gateway` is whose stream it is; `replies` those that are open, by their number on it."""

    def __init__(
        self, gateway: str, link: Link, replies: Mapping[int, Reply], clock: Clock
    ) -> None:
        self._gateway = gateway
        self._link = link
        self._replies = replies
        self._clock = clock

    def take(self, batch: Batch) -> None:
        now = self._clock.now()
        replies = self._replies
        for entry in batch.entries:
            reply = replies.get(entry.stream)
            if reply is None:
                continue
            if isinstance(entry.item, Where):
                self._tell_position(reply, batch.worker, entry.attempt)
            elif not reply.take(batch.worker, entry, now) and now - reply.asked > 1:
                reply.asked = now
                wake.tell(self._link, batch.worker, Resend(self._gateway))

    def _tell_position(self, reply: Reply, worker: str, attempt: int) -> None:
        if not reply.follow(worker, attempt):
            wake.tell(self._link, worker, Cancel(reply.task.id))
            return
        reply.heard = self._clock.now()
        known = Position(reply.task.id, attempt, reply.next, reply.progress(), reply.broken)
        wake.tell(self._link, worker, known)
