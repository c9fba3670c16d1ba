"""The other workers of a lane, asked for when this one cannot have a model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from shared import keys
from shared.clock import Clock
from shared.placement import Placed, pinned, place, taken
from shared.resp import Link
from shared.wire.node import WorkerState, decode_state


class Siblings:
    """`tell` says how the models of this worker stand, to all others."""

    def __init__(
        self,
        link: Link,
        worker: str,
        lane: str,
        tell: Callable[[], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._link = link
        self._tell = tell
        self._worker = worker
        self._lane = lane
        self._clock = clock

    async def able(self, model: str) -> Placed | None:
        """The one to go to with requests for a model; None: no other can have it either.

        Raises Lost or HiredisError.
        """
        # Who is called must know that we cannot, or would call us in turn.
        await self._tell()
        now = self._clock.wall_ms()
        names = await self._link.call(
            "ZRANGE", keys.WORKERS, now - keys.WORKER_MS, "+inf", "BYSCORE"
        )
        others = [name.decode() for name in sorted(names) if name.decode() != self._worker]
        if not others:
            return None
        found = await self._link.call("MGET", *map(keys.worker, others))
        states = [decode_state(data) for data in found if data is not None]
        return place([one for one in states if self._may(one, model)], model, now)

    def _may(self, worker: WorkerState, model: str) -> bool:
        return worker.lane == self._lane and may(worker, model)


def may(worker: WorkerState, model: str) -> bool:
    """Whether a worker has a model, or its load has not failed there and is not too large.

    One whose load failed stays so until somebody asks it anew, whatever its pause: so requests go
    from worker to worker, each once.
    """
    report = worker.models.get(model)
    if report is None or report.state == "failed":
        return False
    ceiling = worker.device.budget - taken(worker) - pinned(worker, model)
    return report.state in ("ready", "loading") or report.size <= ceiling
