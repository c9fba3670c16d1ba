"""What is used together, divided among those who use it. Pure."""

from __future__ import annotations


class Split:
    """A quantity that only grows, such as time or energy: at any moment it is divided equally
    among those who are present; what grows while nobody is belongs to nobody.

    `reading` is the quantity so far. One that is smaller than the last counts as the last.
    """

    def __init__(self) -> None:
        self.present = 0
        self._last = 0.0
        self._each = 0.0
        """What somebody would have who had been present all the time."""

    def enter(self, reading: float) -> float:
        """One more is present; a mark for `leave`."""
        self._advance(reading)
        self.present += 1
        return self._each

    def leave(self, reading: float, mark: float) -> float:
        """One is gone; its part since `mark`."""
        self._advance(reading)
        self.present -= 1
        return self._each - mark

    def _advance(self, reading: float) -> None:
        if self.present:
            self._each += max(0.0, reading - self._last) / self.present
            self._last = max(self._last, reading)
        else:
            self._last = reading
