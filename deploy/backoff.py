"""When a child that died is started again. Pure: times in, seconds out."""

from __future__ import annotations

FIRST = 0.2
LONGEST = 10.0
HEALTHY = 60.0
"""Seconds of service after which earlier deaths are forgotten."""


def pause(last: float, served: float) -> float:
    """Seconds to wait before the next start.

    `last` is the pause before the run that just ended (0 for the first run), `served` the
    seconds that run answered.
    """
    if last == 0 or served >= HEALTHY:
        return FIRST
    return min(last * 2, LONGEST)
