"""Places in engines: who has one, who waits for one again, who lends one for a while."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from shared.wire.task import Class
from worker.occasion import Arrived, Planned
from worker.watch import Owner

NO_RUN = -1
"""The run of an engine that void grants have a place in."""


class PassedOn(Exception):
    """The request is to be handed back to its queue: that worker of the lane may serve it."""

    def __init__(self, worker: str) -> None:
        super().__init__(f"passed on to {worker}")
        self.worker = worker


class Grant(NamedTuple):
    """A place in an engine. It is void when that run of the engine has ended."""

    model: str
    run: int
    since: float = 0.0
    """When it was given, on the loop's clock."""


class Giver(Owner, Protocol):
    """Who gives places."""

    def grant(self, model: str) -> Grant:
        """A place that was admitted just now."""

    def valid(self, grant: Grant) -> bool:
        """Whether its run of the engine is the present one."""

    def end(self, grant: Grant, *, answered: bool) -> None:
        """The place is free again."""


class Returning:
    """Requests whose engine died, or that were parked, and that wait for a place: no queue knows
    them. As many as were admitted at once and not answered since.
    """

    def __init__(self, models: Iterable[str], giver: Giver) -> None:
        self._giver = giver
        self._lines: dict[str, deque[asyncio.Future[Grant]]] = {name: deque() for name in models}

    def open(self, model: str) -> None:
        self._lines[model] = deque()

    def close(self, model: str, why: Exception) -> None:
        """The model is forgotten."""
        self.refuse(model, why)
        del self._lines[model]

    def count(self, model: str) -> int:
        return len(self._lines[model])

    def line_up(self, model: str, service: Class) -> asyncio.Future[Grant]:
        """`wait` must follow."""
        returned: asyncio.Future[Grant] = asyncio.get_running_loop().create_future()
        self._lines[model].append(returned)
        self._giver.post(Arrived(self._giver.now, model, service))
        return returned

    async def wait(self, model: str, returned: asyncio.Future[Grant]) -> Grant:
        """Raises ModelUnavailable when the model does not come back, or PassedOn."""
        try:
            return await returned
        except asyncio.CancelledError:
            self._leave(model, returned)
            raise

    def _leave(self, model: str, returned: asyncio.Future[Grant]) -> None:
        if returned in self._lines.get(model, ()):
            self._lines[model].remove(returned)
        elif returned.done() and not returned.cancelled() and returned.exception() is None:
            self._giver.end(returned.result(), answered=False)

    def admit(self, model: str, count: int) -> int:
        """Gives them places; returns how many are left for those in the queue."""
        line = self._lines[model]
        while count and line:
            returned = line.popleft()
            if not returned.done():
                returned.set_result(self._giver.grant(model))
                count -= 1
        return count

    def refuse(self, model: str, error: Exception) -> None:
        line = self._lines.get(model)
        while line:
            returned = line.popleft()
            if not returned.done():
                returned.set_exception(error)


class Parking:
    """Requests that wait for an adapter and give their place to others meanwhile.

    The first of those who are parked keeps its place, and the model has one more as long as any
    is: so it is not idle, and the others have as many places as ever.
    """

    def __init__(self, models: Iterable[str], giver: Giver) -> None:
        self._giver = giver
        self._parked = dict.fromkeys(models, 0)
        self._stays: dict[str, Grant] = {}
        """The place that those who are parked keep together."""

    def open(self, model: str) -> None:
        self._parked[model] = 0

    def close(self, model: str) -> None:
        del self._parked[model]

    def park(self, grant: Grant) -> Grant:
        """Returns a void grant for it."""
        model = grant.model
        stays = self._stays.get(model)
        self._parked[model] += 1
        if stays is None or not self._giver.valid(stays):
            self._stays[model] = grant
            if stays is None:
                self._give_places(model, 1)
        else:
            self._giver.end(grant, answered=False)
        return Grant(model, NO_RUN)

    def unpark(self, model: str) -> None:
        """One that was parked does not wait any more."""
        self._parked[model] -= 1
        if not self._parked[model]:
            self._give_places(model, -1)
            self._giver.end(self._stays.pop(model), answered=False)

    def _give_places(self, model: str, more: int) -> None:
        plan = self._giver.state.slots[model].plan
        more_places = replace(plan, places=plan.places + more)
        self._giver.post(Planned(self._giver.now, model, more_places))
