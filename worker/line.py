"""The queues of a lane's models, as far as this worker minds them.

A worker counts the line of a model that it has or brings, and of one that it was called for, as
long as somebody waits. So two workers of a lane do not both load what one of them was called for,
and both serve what both have.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from shared import keys, line
from shared.clock import Clock
from shared.resp import Link
from worker import occasion
from worker.loop import Loop


class Lines:
    """`models` has the model of each queue."""

    def __init__(self, link: Link, loop: Loop, models: Iterable[str], clock: Clock) -> None:
        self.models = {keys.queue(model): model for model in models}
        self.admitted = dict.fromkeys(self.models, 0)
        """Places in engines that were given to requests not yet taken from their queue."""
        self._link = link
        self._loop = loop
        self._clock = clock
        self._called: dict[str, int] = {}
        """The number of the last call for each queue that was not empty since."""
        self._calls = 0
        self._inherited: Collection[str] | None = ()

    def open(self, model: str) -> None:
        """Its line can be looked at, and is, if it is this worker's from before."""
        self.models[keys.queue(model)] = model
        self.admitted.setdefault(keys.queue(model), 0)
        if self._inherited is None or model in self._inherited:
            self.mind([model])

    def inherit(self, models: Collection[str] | None) -> None:
        """Counts the lines of these, which a predecessor minded; None: nobody else minds any."""
        self._inherited = models
        self.mind(self.models.values() if models is None else models)

    def close(self, model: str) -> None:
        name = keys.queue(model)
        self._called.pop(name, None)
        self.models.pop(name, None)
        if not self.admitted.get(name):
            self.admitted.pop(name, None)

    def fill(self, name: str, count: int) -> None:
        """So many of the places given to a queue are taken, or given back."""
        self.admitted[name] -= count
        if name not in self.models:
            del self.admitted[name]

    def arrived(self, name: str) -> None:
        """Somebody waits on a queue, and this worker is to see to it."""
        model = self.models.get(name)
        if model is not None:
            self.mind([model])
            self._loop.post(occasion.Arrived(self._clock.now(), model, "interactive"))

    def mind(self, models: Iterable[str]) -> None:
        """Counts these until their lines are empty."""
        self._calls += 1
        for model in models:
            if keys.queue(model) in self.models:
                self._called[keys.queue(model)] = self._calls

    def forget(self, model: str) -> None:
        """Counts it no more: another worker was called for it."""
        self._called.pop(keys.queue(model), None)

    async def count(self) -> None:
        """Tells the loop what the lines really are: calls can be lost, callers leave.

        A class's slack is in how long its first job is overdue, so one class says it all.
        """
        called = dict(self._called)
        minded = [n for n, model in self.models.items() if n in called or self._has(model)]
        lines = await line.waiting(self._link, minded) if minded else {}
        now = self._clock.now()
        for name, model in list(self.models.items()):
            if name not in self.models:
                # It was closed by what another line led to.
                continue
            if self._called.get(name) != called.get(name):
                # It arrived while we counted, and perhaps after.
                continue
            found = lines.get(name, line.Line(0, 0))
            if not found.waiting:
                self._called.pop(name, None)
            count = max(0, found.waiting - self.admitted[name]) + self._loop.returning(model)
            if count or self._loop.slot(model).count:
                oldest = now - found.overdue_ms / 1000
                self._loop.post(occasion.Waiting(now, model, "interactive", count, oldest))

    def _has(self, model: str) -> bool:
        return self._loop.slot(model).state in ("loading", "ready")
