"""What servers offer by themselves, as the workers' heartbeats tell it to this gateway.

While no worker of a lane tells, as when the only one begins anew, what was told last stands for a
bounded time: requests for it are queued for a while, then refused, but it does exist.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.line import waits
from gateway.reply import Reply
from shared.catalog import Catalog, Entry
from shared.clock import Clock
from shared.errors import ModelNotFound
from shared.wire.node import Offered, WorkerState

KEPT = 600.0
"""Seconds that models are listed which no worker offers."""
UNSERVED = 15.0
"""Seconds without a worker that offers a model after which requests for it are refused."""


class Offers:
    """Who waits for a model that its server has no more is told; who is served is not cut."""

    def __init__(self, catalog: Catalog, replies: Mapping[int, Reply], clock: Clock) -> None:
        self._catalog = catalog
        self._replies = replies
        self._clock = clock
        self._told: dict[str, float] = {}
        """When a worker last told what the server of a table has."""

    def take(self, workers: Sequence[WorkerState]) -> None:
        """The heartbeats as they are now."""
        if not self._catalog.servers:
            return
        now = self._clock.now()
        for table, template in self._catalog.servers.items():
            lane = [worker for worker in workers if worker.lane == template.lane]
            told = union(table, lane)
            if told is not None:
                self._told[table] = now
                self._catalog.learn(table, told)
            elif now - self._told.get(table, now) > KEPT:
                del self._told[table]
                self._catalog.learn(table, ())

        for reply in list(self._replies.values()):
            name = reply.task.model
            if reply.queued and waits(reply) and name not in self._catalog:
                text = f"The model {name!r} does not exist any more: its server has removed it."
                reply.fail(ModelNotFound(text, param="model").failed())
                reply.close()

    def unserved(self, entry: Entry) -> bool:
        """Whether it is a server's model that no worker has offered for a while."""
        told = self._told.get(entry.server)
        return bool(entry.server) and (told is None or self._clock.now() - told > UNSERVED)


def union(table: str, workers: Sequence[WorkerState]) -> list[Offered] | None:
    """What the workers of a lane say a server has; None: none of them says. Pure."""
    told = [worker.offered[table] for worker in workers if table in worker.offered]
    if not told:
        return None
    return list({one.name: one for offered in told for one in offered}.values())
