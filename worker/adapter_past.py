"""What is remembered of adapters: how often each is asked for, and which could not be loaded."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from shared.errors import InvalidValue
from worker.rotation import usual

MOST_HABITS = 4096
"""Adapters whose last use is remembered."""
MOST_FAILED = 256
RETRY = 10.0
"""Seconds for which an adapter that could not be loaded is not tried again."""


class Habit(NamedTuple):
    """When an adapter was asked for last, and how often it is."""

    at: float
    every: float | None


class Habits:
    def __init__(self) -> None:
        self._habits: OrderedDict[str, Habit] = OrderedDict()

    def of(self, name: str, since: float) -> Habit:
        """`since` stands for the last use of one that was never asked for."""
        return self._habits.get(name, Habit(since, None))

    def note(self, name: str, now: float, load_seconds: float) -> None:
        """It was asked for."""
        before = self._habits.pop(name, None)
        every = None
        if before is not None:
            every = usual(before.every, now - before.at, load_seconds)
        self._habits[name] = Habit(now, every)
        if len(self._habits) > MOST_HABITS:
            self._habits.popitem(last=False)


class Failures:
    """Adapters that did not fit their engine."""

    def __init__(self) -> None:
        self._failed: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return name in self._failed

    def names(self, now: float) -> list[str]:
        """Those that are not tried again yet."""
        return [name for name, (until, _) in self._failed.items() if now < until]

    def check(self, name: str, now: float) -> None:
        """Raises InvalidValue where it could not be loaded a moment ago."""
        until, why = self._failed.get(name, (0.0, ""))
        if now < until:
            raise InvalidValue(why, param="model")

    def note(self, name: str, now: float, why: str) -> None:
        self._failed[name] = (now + RETRY, why)
        if len(self._failed) > MOST_FAILED:
            self._failed.popitem(last=False)

    def forget(self, name: str) -> None:
        self._failed.pop(name, None)
