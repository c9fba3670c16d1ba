"""Which worker of a lane loads a model that nobody has asked for: one that is pinned or preloaded.

Each such model has one keeper. A worker first takes its share of them, by where its device stands
among those of the settings or by how all that is pinned fits, and what a predecessor had; some
seconds later what nobody took. What
does not fit beside that stays for others. The pinned models of a worker that died are taken by
another that has room; preloaded ones come back with requests.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from shared import custody, log
from shared.catalog import Entry
from shared.clock import Clock
from shared.resp import Link
from worker.loop import Loop
from worker.occasion import LoadAsked, Pin

LEFT_OVER = 5.0
"""Seconds after its start from which a worker takes what is nobody's."""

logger = log.get("custody")


class Share(NamedTuple):
    """This worker's place among those that one settings file names."""

    place: int = 0
    of: int = 1
    pinned: frozenset[str] | None = None
    """The pinned models that are this worker's; None: they take turns as the others do."""


ALL = Share()


class Custody:
    def __init__(
        self,
        link: Link,
        worker: str,
        lane: str,
        entries: Sequence[Entry],
        loop: Loop,
        share: Share,
        clock: Clock,
    ) -> None:
        self._link = link
        self._worker = worker
        self._lane = lane
        self._pinned = [entry.name for entry in entries if entry.model.pin]
        self._wanted = self._pinned + [
            entry.name for entry in entries if entry.model.preload and not entry.model.pin
        ]
        self._loop = loop
        self._share = share
        self._clock = clock
        self._began = clock.now()
        self._kept: list[str] = []
        self._left = self._wanted
        """What to take when nobody has it, after the first share."""
        self._homeless: list[str] = []

    async def begin(self, inherited: Collection[str]) -> tuple[list[str], list[str]]:
        """Takes the first share; returns what to pin, and what else to load."""
        taken = await self._take([m for m in self._wanted if m in inherited or self._is_ours(m)])
        return [m for m in taken if m in self._pinned], [m for m in taken if m not in self._pinned]

    def _is_ours(self, model: str) -> bool:
        place, of, pinned = self._share
        if pinned is not None and model in self._pinned:
            return model in pinned
        return self._wanted.index(model) % of == place

    async def keep(self) -> None:
        """Once a second: says again what is kept, and takes what nobody has."""
        asked = list(self._kept)
        if self._clock.now() - self._began >= LEFT_OVER:
            asked += [model for model in self._left if model not in self._kept]
            self._left = self._pinned
        for model in await self._take(asked):
            logger.info("taken", model=model, pinned=model in self._pinned)
            now = self._loop.now
            pin = model in self._pinned
            self._loop.post(Pin(now, model, True) if pin else LoadAsked(now, model))

    async def _take(self, models: list[str]) -> list[str]:
        """Those of `models` that were not kept before and are now; pinned ones have precedence."""
        pinned = [model for model in models if model in self._pinned]
        others = [model for model in models if model not in self._pinned]
        return await self._ask(pinned, self._pinned) + await self._ask(others, self._wanted)

    async def _ask(self, models: list[str], beside: list[str]) -> list[str]:
        """Takes what fits beside those of `beside` that are kept already."""
        if not models:
            return []
        kept = set(self._kept)
        sizes = {model: self._loop.slot(model).plan.size for model in (*models, *beside)}
        room = self._loop.state.capacity - sum(sizes[m] for m in beside if m in kept)
        pairs = [(model, 0 if model in kept else sizes[model]) for model in models]
        ours, left = await custody.keep(self._link, self._worker, self._lane, pairs, room)
        if beside is self._pinned:
            self._tell(left)
        taken = [model for model in ours if model not in kept]
        self._kept += taken
        return taken

    def _tell(self, homeless: list[str]) -> None:
        if homeless and homeless != self._homeless:
            logger.warning("pinned, but no room here and nobody else has them", models=homeless)
        self._homeless = homeless
