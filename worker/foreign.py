"""What programs other than ours use of a device, as far as decisions go by it. Pure.

A reading moves with every breath of a desktop; decisions must not. So the figure they go by is the
reading rounded up to whole steps. It follows a rise at once, and a fall when it is a step or more.
"""

from __future__ import annotations

STEPS = 128
"""Steps in a device: 128 MiB on a card of 16 GiB."""


def step(capacity: int) -> int:
    """Bytes by which two readings of the same thing may differ."""
    return max(1, capacity // STEPS)


def beyond(capacity: int, available: int, ours: int, quarantined: int) -> int:
    """Bytes of `capacity` that others use.

    `available` is what the device could give now. Where the capacity is less than the device has,
    others use what is outside of it first.
    """
    return min(capacity, max(0, capacity - available - ours - quarantined))


def told(before: int, now: int, capacity: int) -> int:
    """The figure to go by after a reading of `now`: never less than that."""
    unit = step(capacity)
    rounded = min(capacity, -(-now // unit) * unit)
    return rounded if now > before or rounded < before - unit else before
