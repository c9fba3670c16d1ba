"""Who holds how many bytes of one device. Pure: it decides by its books and touches nothing.

Always: reserved + quarantined <= budget, and no number is negative. What was measured above that
is kept beside the books as `over`; as long as there is any, no byte is free, and bytes that
others give back go to it first. What foreign programs use is not free either, but takes nothing
from those who have it.
"""

from __future__ import annotations

import msgspec

MOST_HOLDERS = 4096
"""Holders and quarantines at once, each."""


class LedgerFull(Exception):
    """More holders than any device has room for: someone does not release."""


class Granted(msgspec.Struct, frozen=True):
    holder: str
    bytes: int
    """Reserved for it now, in all."""
    free: int
    """What is left."""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """Why a holder cannot have its bytes, in numbers."""

    holder: str
    asked: int
    missing: int
    """Bytes that others would have to give back first."""
    free: int
    reserved: int
    """By the others."""
    quarantined: int
    foreign: int
    budget: int
    possible: bool
    """Whether it would fit with every other holder gone, as quarantine and foreign use stand."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """One holder's line in the books, in bytes."""

    holder: str
    reserved: int
    estimated: int
    """What it was admitted with."""
    measured: int | None
    """The last settlement; None: not measured yet."""
    over: int
    """Measured or wanted above what could be reserved."""


class Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that nobody may have, because the device did not show them free."""

    holder: str
    bytes: int
    over: int
    """Bytes beyond it that were not in the books to be withheld."""
    why: str


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The books of one device at one moment, for status."""

    device: str
    total: int
    budget: int
    reserved: int
    quarantined: int
    foreign: int
    """Of the budget, in use by programs that hold nothing here."""
    free: int
    over: int
    """Bytes in use that the books have no room for; above 0 something must go."""
    holders: tuple[Held, ...]
    quarantines: tuple[Quarantined, ...]


class Ledger:
    """`total` bytes of the device, of which `budget` (default: all) are ours to give out.

    The books are as large as `MOST_HOLDERS`.
    """

    def __init__(self, device: str, total: int, budget: int | None = None) -> None:
        budget = total if budget is None else budget
        if not 0 <= budget <= total:
            raise ValueError(f"a budget of {budget} bytes on a device of {total}")
        self.device = device
        self.total = total
        self.budget = budget
        self.foreign = 0
        self._holders: dict[str, Held] = {}
        self._quarantines: dict[str, Quarantined] = {}

    def free(self) -> int:
        """Bytes that can be admitted now."""
        return max(0, self._unbooked() - self.foreign)

    def others(self, bytes: int) -> None:
        """Foreign programs use this much of the budget now."""
        nonnegative(bytes)
        self.foreign = bytes

    def admit(self, holder: str, bytes: int) -> Granted | Refused:
        """Reserve `bytes` for a new holder, or change a holder's reservation to that.

        A refusal changes nothing. Less than it has is always granted.
        """
        positive(bytes)
        held = self._holders.get(holder)
        before = held.reserved if held else 0
        room = before + self.free()
        if bytes > before and bytes > room:
            return self._refusal(holder, bytes, before)
        if held is None:
            full(self._holders)
        self._holders[holder] = Held(
            holder=holder, reserved=bytes, estimated=bytes, measured=None, over=0
        )
        self._absorb()
        return Granted(holder, bytes, self.free())

    def settle(self, holder: str, measured: int, filling: int = 0) -> Held:
        """Reserve what the holder was measured to have, and what it may still fill.

        It has the bytes whatever the books say: what they have no room for becomes `over`.
        Raises KeyError for a holder that was not admitted.
        """
        nonnegative(measured)
        nonnegative(filling)
        held = self._holders[holder]
        wanted = measured + filling
        reserved = min(wanted, held.reserved + self._unbooked())
        self._holders[holder] = msgspec.structs.replace(
            held, reserved=reserved, measured=measured, over=wanted - reserved
        )
        self._absorb()
        return self._holders[holder]

    def release(self, holder: str) -> int:
        """Forget a holder; returns the bytes that it had. Idempotent."""
        held = self._holders.pop(holder, None)
        self._absorb()
        return held.reserved if held else 0

    def quarantine(self, holder: str, bytes: int, why: str) -> Quarantined:
        """Withhold bytes that should be free and are not, until `clear`.

        A holder of that name is released first, so its bytes become the quarantine's. Once more
        for the same name sets the new number. Bytes that the books have no room for are `over`.
        """
        positive(bytes)
        if holder not in self._quarantines:
            full(self._quarantines)
        # Before anything is absorbed: the bytes are this holder's own.
        self._holders.pop(holder, None)
        self._quarantines.pop(holder, None)
        withheld = min(bytes, self._unbooked())
        line = Quarantined(holder=holder, bytes=withheld, over=bytes - withheld, why=why)
        self._quarantines[holder] = line
        self._absorb()
        return line

    def clear(self, holder: str) -> int:
        """The device shows them free: end a quarantine; returns its bytes. Idempotent."""
        line = self._quarantines.pop(holder, None)
        self._absorb()
        return line.bytes if line else 0

    def held(self, holder: str) -> Held | None:
        return self._holders.get(holder)

    def snapshot(self) -> Snapshot:
        return Snapshot(
            device=self.device,
            total=self.total,
            budget=self.budget,
            reserved=self._reserved(),
            quarantined=self._quarantined(),
            foreign=self.foreign,
            free=self.free(),
            over=self._over(),
            holders=tuple(self._holders[name] for name in sorted(self._holders)),
            quarantines=tuple(self._quarantines[name] for name in sorted(self._quarantines)),
        )

    def _absorb(self) -> None:
        """Book what is over, as far as there is room."""
        for name, held in self._holders.items():
            if room := min(held.over, self._unbooked()):
                self._holders[name] = msgspec.structs.replace(
                    held, reserved=held.reserved + room, over=held.over - room
                )
        for name, line in self._quarantines.items():
            if room := min(line.over, self._unbooked()):
                self._quarantines[name] = msgspec.structs.replace(
                    line, bytes=line.bytes + room, over=line.over - room
                )

    def _refusal(self, holder: str, asked: int, before: int) -> Refused:
        quarantined = self._quarantined()
        return Refused(
            holder=holder,
            asked=asked,
            missing=asked - before - self._unbooked() + self._over() + self.foreign,
            free=self.free(),
            reserved=self._reserved() - before,
            quarantined=quarantined,
            foreign=self.foreign,
            budget=self.budget,
            possible=asked <= self.budget - quarantined - self.foreign,
        )

    def _reserved(self) -> int:
        return sum(held.reserved for held in self._holders.values())

    def _quarantined(self) -> int:
        return sum(line.bytes for line in self._quarantines.values())

    def _over(self) -> int:
        return sum(held.over for held in self._holders.values()) + sum(
            line.over for line in self._quarantines.values()
        )

    def _unbooked(self) -> int:
        return self.budget - self._reserved() - self._quarantined()


def positive(bytes: int) -> None:
    if bytes <= 0:
        raise ValueError(f"{bytes} bytes cannot be held")


def nonnegative(bytes: int) -> None:
    if bytes < 0:
        raise ValueError(f"{bytes} bytes cannot be measured")


def full(lines: dict[str, Held] | dict[str, Quarantined]) -> None:
    if len(lines) >= MOST_HOLDERS:
        raise LedgerFull(f"{MOST_HOLDERS} holders already")
