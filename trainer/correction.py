"""A run's bytes, corrected by what an earlier one of the same setup was measured to take. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from shared.training_run import Ran, Setup

MARGIN = 0.05
"""Over a measured peak: what two runs of one setup differ by."""
GROWTH = 0.25
"""Over what was too little."""
Basis = Literal["estimated", "measured", "grown"]
"""measured: its peak, earlier. grown: it ran out of memory with less."""


class Corrected(NamedTuple):
    bytes: int
    basis: Basis


def earlier(runs: Sequence[Ran], setup: Setup) -> Ran | None:
    """The newest of this setup; `runs` come newest first."""
    names = Setup.__struct_fields__
    return next(
        (ran for ran in runs if all(getattr(ran, name) == getattr(setup, name) for name in names)),
        None,
    )


def corrected(estimated: int, ran: Ran | None) -> Corrected:
    """Bytes to take from the ledger."""
    if ran is None:
        return Corrected(estimated, "estimated")
    if ran.short:
        return Corrected(max(estimated, int(ran.peak * (1 + GROWTH))), "grown")
    return Corrected(int(ran.peak * (1 + MARGIN)), "measured")
