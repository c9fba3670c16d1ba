"""What a load was measured to hold, and the reservation that follows for the next one. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from shared.estimate import Estimate

SETTLED = 16
"""Requests after which a load has shown what it takes; before, the formula stands for the part
that only requests fill."""
MARGIN = 0.02
"""Over a measured size: what two loads of one model differ by."""


class Key(msgspec.Struct, frozen=True):
    """Loads that take the same memory."""

    device: str
    """The kind of device, e.g. its product name; cpu for the machine's own memory."""
    model: str
    engine: str
    context: int
    parallel: int


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """One load as it was measured, in bytes."""

    weights: int
    """Estimated bytes of the weights: another number means another model under the same name."""
    adapters: int
    """Estimated bytes of the adapters that were loaded when it was measured."""
    loaded: int
    """Right after the load."""
    peak: int
    """The most that was seen until the model left."""
    requests: int
    """Requests that it had served by then."""
    measured_at: datetime | None = None


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes to take from the ledger, and why so many."""

    bytes: int
    basis: Literal["estimated", "loaded", "measured", "grown"]
    """estimated: never measured here. loaded: measured, but it served too little to show its most,
    so the estimated filling is added. measured: its peak, and room for its prompt cache. grown: a
    start with less ran out of memory."""
    estimated: int
    measured: int | None
    """The peak of the footprint that was used."""


def newer(known: Footprint | None, taken: Footprint) -> Footprint:
    """The one to go by: the newest, unless it served too little to replace one that showed its
    most."""
    if known is None or known.weights != taken.weights:
        return taken
    return taken if taken.requests >= min(known.requests, SETTLED) else known


def reserve(estimate: Estimate, footprint: Footprint | None, least: int = 0) -> Reservation:
    """The estimate, corrected by the footprint of an earlier load on the same kind of device.

    A footprint of other weights is not used. `least`: a start with fewer bytes ran out of memory,
    of which a measurement after a start tells nothing.
    """
    found = measured(estimate, footprint)
    if found.bytes >= least:
        return found
    return msgspec.structs.replace(found, bytes=least, basis="grown")


def measured(estimate: Estimate, footprint: Footprint | None) -> Reservation:
    """As `reserve`, of starts that succeeded."""
    if footprint is None or footprint.weights != estimate.weights:
        return Reservation(
            bytes=estimate.total, basis="estimated", estimated=estimate.total, measured=None
        )
    settled = footprint.requests >= SETTLED
    full = footprint.loaded + estimate.filling
    # A cache of prompts fills with the days, whatever was served until now.
    seen = max(
        footprint.peak, min(full, footprint.peak + estimate.prompt_cache) if settled else full
    )
    bytes = int(seen * (1 + MARGIN)) + estimate.adapters - footprint.adapters
    return Reservation(
        bytes=max(bytes, 1),
        basis="measured" if settled else "loaded",
        estimated=estimate.total,
        measured=footprint.peak,
    )
