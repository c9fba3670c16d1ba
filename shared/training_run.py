"""Runs of fine-tuning as they were measured: what later ones are estimated by."""

from __future__ import annotations

from typing import Literal

import msgspec


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """Runs with the same take the same memory, and are as fast."""

    device: str
    """The kind of device, e.g. its product name."""
    base: str
    weights: int
    """Estimated bytes of the base: another number means another model under the same name."""
    method: Literal["supervised", "dpo"]
    quantise: Literal["none", "nf4"]
    dtype: Literal["float32", "bfloat16", "float16"]
    checkpointing: bool
    rank: int
    batch: int
    """Examples computed at once."""
    length: int
    """Tokens of the longest, rounded up."""


class Ran(Setup, frozen=True, kw_only=True):
    peak: int
    """Bytes on the device; where it was `short`, those that were too few."""
    tokens_per_second: float
    """While it stepped; 0 where it was short."""
    work: float
    """Operations for a token, as they are estimated."""
    around: float
    """Seconds of the process beside its steps: loading, validating, saving."""
    short: bool = False
    """It ran out of memory."""
