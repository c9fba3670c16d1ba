"""Whom this gateway called for what, until the workers' own reports say it."""

from __future__ import annotations

from collections import Counter

from gateway.sightings import Sightings
from shared import log
from shared.clock import Clock
from shared.placement import Placed, place

TURNS = 2
"""How many turns a call is remembered: a report is a second old at most, so is our copy of it."""
NONE: Counter[str] = Counter()

logger = log.get("calls")


class Calls:
    """Bounded by the models of the catalog times the workers that live."""

    def __init__(self, sightings: Sightings, clock: Clock) -> None:
        self._sightings = sightings
        self._clock = clock
        self._turn = 0
        self._called: dict[str, str] = {}
        self._called_at: dict[str, int] = {}
        self._sent: dict[str, Counter[str]] = {}
        self._sent_before: dict[str, Counter[str]] = {}
        self._open: Counter[tuple[str, str]] = Counter()
        """This gateway's own requests, by worker and model."""

    def turn(self) -> None:
        """To be called once a second, when new reports were read."""
        self._turn += 1
        for model, at in list(self._called_at.items()):
            if self._turn - at >= TURNS:
                del self._called[model], self._called_at[model]
        self._sent_before, self._sent = self._sent, {}

    async def find(self, lane: str, model: str) -> Placed | None:
        """The worker to call for one more request; None while the lane has none.

        Where it would have to bring the model, reports are read again first: in one that is a
        second old another worker may not have it yet. Raises Lost or HiredisError.
        """
        placed = self._place(lane, model)
        if placed is None or placed.brings:
            await self._sightings.look_afresh()
            placed = self._place(lane, model)
        self._remember(model, placed, 1)
        return placed

    def call(self, lane: str, model: str, count: int) -> Placed | None:
        """The worker to call for `count` more requests; None while the lane has none."""
        placed = self._place(lane, model)
        self._remember(model, placed, count)
        return placed

    def may_hand(self, placed: Placed, model: str) -> bool:
        """Whether one more request may go to the worker with its call: it likely has a place."""
        return self._open[placed.worker, model] < placed.room

    def opened(self, worker: str, model: str) -> None:
        self._open[worker, model] += 1

    def closed(self, worker: str, model: str) -> None:
        self._open[worker, model] -= 1
        if not self._open[worker, model]:
            del self._open[worker, model]

    def _place(self, lane: str, model: str) -> Placed | None:
        sent = self._sent.get(model, NONE)
        workers = self._sightings.lane(lane)
        return place(
            workers,
            model,
            self._clock.wall_ms(),
            called=self._called,
            sent=sent + self._sent_before.get(model, NONE) if len(workers) > 1 else sent,
        )

    def _remember(self, model: str, placed: Placed | None, count: int) -> None:
        if placed is not None:
            self._sent.setdefault(model, Counter())[placed.worker] += count
            self._called[model] = placed.worker
            self._called_at[model] = self._turn
            logger.debug("called", model=model, worker=placed.worker, why=placed.why)
