"""What each batch of a job would take of its device: estimated, and corrected by what was measured.
Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shared.training_run import Ran, Setup
from trainer.correction import Basis, corrected, earlier
from trainer.estimate import Estimate
from trainer.plan import Hyperparameters, Method

STEP = 64
"""Tokens: lengths within one step are the same setup."""


class Size(msgspec.Struct, frozen=True):
    """What a batch of so many examples takes; accumulation makes the step the same."""

    batch: int
    accumulation: int
    bytes: int
    estimated: int = 0
    """Before it was corrected."""
    basis: Basis = "estimated"


def setup(
    device: str, base: str, weights: int, method: Method, chosen: Hyperparameters, longest: int
) -> Setup:
    """`longest` example of the file, in tokens; where it is shorter than the greatest length, no
    batch ever has that."""
    return Setup(
        device=device,
        base=base,
        weights=weights,
        method=method,
        quantise=chosen.quantise,
        dtype=chosen.dtype,
        checkpointing=chosen.checkpointing,
        rank=chosen.rank,
        batch=chosen.batch,
        length=min(chosen.max_length, -(-longest // STEP) * STEP) or chosen.max_length,
    )


def sizes(
    first: Setup,
    candidates: Sequence[Hyperparameters],
    estimates: Sequence[Estimate],
    runs: Sequence[Ran],
) -> tuple[Size, ...]:
    """In the order of the candidates; `first` is the setup of the first one."""
    found = []
    for made, estimated in zip(candidates, estimates, strict=True):
        ran = earlier(runs, msgspec.structs.replace(first, batch=made.batch))
        bytes_, basis = corrected(estimated.total, ran)
        found.append(Size(made.batch, made.accumulation, bytes_, estimated.total, basis))
    return tuple(found)
