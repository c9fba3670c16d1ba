"""The learning rate over a job's steps. Pure."""

from __future__ import annotations

import math


def rise(steps: int, warmup: float) -> int:
    """Steps in which the rate rises, for the share `warmup` of all."""
    return min(steps, math.ceil(steps * warmup))


def share(step: int, steps: int, rising: int) -> float:
    """Of the highest rate, in the step counted from 0; in no step of the job is it 0."""
    if step < rising:
        return (step + 1) / rising
    return max(0.0, (steps - step) / max(1, steps - rising))
