"""What to do for open replies when jobs vanish, wake-ups are lost or workers die."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping

from gateway.calls import Calls
from gateway.reply import Reply
from gateway.sightings import Sightings
from shared import keys, log, queue, wake
from shared.clock import Clock
from shared.errors import EngineFailed, RequestTimeout
from shared.resp import Link
from shared.wire.node import WorkerState

QUIET = 3.0
"""Seconds without an item after which a reply's job is looked for."""
UNHEARD = 2.0
"""Seconds a worker has to count a line it was called for, before another call."""
REQUEUES = 3
"""Times a job that vanished is queued again."""

logger = log.get("recovery")


class Recovery:
    """`place` queues a reply's job again as the attempt it is given."""

    def __init__(
        self,
        link: Link,
        replies: Mapping[int, Reply],
        sightings: Sightings,
        calls: Calls,
        place: Callable[[Reply, int], Awaitable[queue.Placed]],
        limit: float,
        clock: Clock,
    ) -> None:
        self._link = link
        self._replies = replies
        self._sightings = sightings
        self._calls = calls
        self._place = place
        self._limit = limit
        self._clock = clock

    async def look(self) -> None:
        """Once a second; raises Lost or HiredisError."""
        self._call_others()
        await self._look_for_lost_jobs()

    def _call_others(self) -> None:
        """The models of workers that died move; a line that nobody counts is told again."""
        stranded: dict[tuple[str, str], list[Reply]] = {}
        for reply in self._replies.values():
            if not reply.ended and self._is_stranded(reply):
                stranded.setdefault((reply.lane, reply.task.model), []).append(reply)
        for (lane, model), replies in stranded.items():
            placed = self._calls.call(lane, model, len(replies))
            if placed is None:
                continue
            logger.info("called again", model=model, worker=placed.worker, why=placed.why)
            now = self._clock.now()
            for reply in replies:
                reply.worker, reply.called = placed.worker, now
            wake.call(self._link, placed.worker, keys.queue(model), len(replies))

    def _is_stranded(self, reply: Reply) -> bool:
        workers = self._sightings.lane(reply.lane)
        living = {worker.name for worker in workers}
        # Called again each second until another produces: its lease may not have run out yet.
        begun = reply.producer if reply.next else None
        if (begun[0] if begun is not None else reply.worker) not in living:
            return True
        unheard = self._clock.now() - max(reply.called, reply.heard) > UNHEARD
        return unheard and not attended(workers, reply.task.model)

    async def _look_for_lost_jobs(self) -> None:
        """A quiet reply whose job is not in Redis any more lost it to a crash: queue it again."""
        now, wall_ms = self._clock.now(), self._clock.wall_ms()
        quiet = [r for r in self._replies.values() if now - r.heard > QUIET and not r.ended]
        for reply in quiet:
            if wall_ms > reply.task.deadline_ms:
                message = f"The request took longer than {self._limit:g} seconds."
                reply.fail(RequestTimeout(message).failed())
        gone = await queue.vanished(self._link, [r.task.id for r in quiet])
        for reply in quiet:
            if reply.task.id not in gone:
                reply.vanished = 0
            elif not reply.ended:
                reply.vanished += 1
                if reply.vanished >= 2:
                    await self._requeue(reply)

    async def _requeue(self, reply: Reply) -> None:
        if reply.requeues == REQUEUES:
            reply.fail(EngineFailed("The request was lost several times; giving up.").failed())
            return
        logger.warning("job vanished, queued again", job=reply.task.id)
        tried = reply.producer[1] if reply.producer else 0
        await self._place(reply, tried + 2 + reply.requeues)
        reply.vanished = 0
        reply.requeues += 1


def attended(workers: Collection[WorkerState], model: str) -> bool:
    """Whether some worker counts this model's line, by its report."""
    reports = [worker.models[model] for worker in workers if model in worker.models]
    return any(r.waiting or r.serving or r.state in ("ready", "loading") for r in reports)
