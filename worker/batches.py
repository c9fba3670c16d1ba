"""Who computes on a device at a time: the shares of its seconds and of its energy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from shared.clock import Clock
from worker.gpu import Sample
from worker.resident import Resident
from worker.split import Split


class Share:
    """What one request had of a device so far; `millijoules` None: the device does not say."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.millijoules: float | None = None


class Mark(NamedTuple):
    seconds: float
    millijoules: float | None


class Batches:
    """Seconds count where the device is a `card` and the engine runs on it.

    They are divided among what runs in one engine at a time, the energy of the card among all that
    runs on it. `sample` is the last look at the card.
    """

    def __init__(
        self,
        residents: Mapping[str, Resident],
        card: bool,
        sample: Callable[[], Sample | None],
        clock: Clock,
    ) -> None:
        self._residents = residents
        self._card = card
        self._sample = sample
        self._clock = clock
        self._engines: dict[str, Split] = {}
        self._energy = Split()

    @contextmanager
    def computing(self, model: str, share: Share) -> Iterator[None]:
        """One choice is in the engine; its part is added to `share`."""
        resident = self._residents.get(model)
        if not self._card or resident is None or not resident.reserved:
            yield
            return
        engine, now = self._engines.setdefault(model, Split()), self._clock.now()
        energy = energy_at(self._sample(), now)
        mark = Mark(engine.enter(now), None if energy is None else self._energy.enter(energy))
        try:
            yield
        finally:
            now = self._clock.now()
            share.seconds += engine.leave(now, mark.seconds)
            if not engine.present:
                self._engines.pop(model, None)
            if mark.millijoules is not None:
                # A card that has failed since tells nothing; then nothing was added.
                energy = energy_at(self._sample(), now) or 0.0
                part = self._energy.leave(energy, mark.millijoules)
                share.millijoules = (share.millijoules or 0.0) + part


def energy_at(sample: Sample | None, now: float) -> float | None:
    """Millijoules since the driver was loaded: what the card said, and its power since then."""
    if sample is None or sample.energy_mj is None:
        return None
    return sample.energy_mj + (sample.power_mw or 0) * max(0.0, now - sample.at)
