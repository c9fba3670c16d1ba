"""The adapters that an engine has."""

from __future__ import annotations

from worker.adapter_past import Habits
from worker.rotation import Loaded


class Held:
    """One that the engine has."""

    def __init__(self, path: str, bytes: int, since: float) -> None:
        self.path = path
        self.bytes = bytes
        self.since = self.used = since
        self.users = 0
        self.closed = False


class Shelf(dict[str, Held]):
    """By the engine's names; no more than may be loaded."""

    def __init__(self, habits: Habits) -> None:
        super().__init__()
        self._habits = habits
        self.run = 0
        """Changes when the engine ends."""

    @property
    def bytes(self) -> int:
        return sum(held.bytes for held in self.values())

    def loaded(self) -> dict[str, Loaded]:
        """As a decision sees them."""
        found = {}
        for name, held in self.items():
            habit = self._habits.of(name, held.since)
            found[name] = Loaded(
                since=held.since,
                used=max(held.used, habit.at),
                users=held.users,
                every=habit.every,
                closed=held.closed,
            )
        return found

    def idlest(self, now: float) -> str | None:
        """The one that nobody uses and that is missed least."""
        idle = {name: one for name, one in self.loaded().items() if not one.users}
        return max(idle, key=lambda name: idle[name].off(now)) if idle else None
