"""Whether a load fits into so many bytes, and the largest one that does."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from shared.estimate import Estimate, estimate
from shared.load import Load
from shared.weights import Weights

MOST_PARALLEL = 1024
STEP = 256
"""Contexts are offered in steps of this many tokens."""


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """`estimate` is of the load as asked for."""

    fits: bool
    device_bytes: int
    estimate: Estimate
    spare: int
    """Bytes left over; negative: bytes that are missing."""
    largest_context: int | None
    """Tokens with the parallel requests asked for, at most what the model knows; None: none."""
    largest_parallel: int | None
    """Requests with the context asked for, at most 1024; None: not even one."""


def fit(weights: Weights, load: Load, device_bytes: int) -> Fit:
    def with_context(steps: int) -> bool:
        changed = msgspec.structs.replace(load, context=steps * STEP)
        return estimate(weights, changed).total <= device_bytes

    def with_parallel(parallel: int) -> bool:
        changed = msgspec.structs.replace(load, parallel=parallel)
        return estimate(weights, changed).total <= device_bytes

    asked = estimate(weights, load)
    steps = largest(with_context, max(1, weights.shape.context // STEP))
    return Fit(
        fits=asked.total <= device_bytes,
        device_bytes=device_bytes,
        estimate=asked,
        spare=device_bytes - asked.total,
        largest_context=None if steps == 0 else steps * STEP,
        largest_parallel=largest(with_parallel, MOST_PARALLEL) or None,
    )


def largest(holds: Callable[[int], bool], most: int) -> int:
    """The largest of 1 to `most` for which it holds, 0 for none; it holds up to some number."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low
