"""What a training run will hold on its device, from a dry run's figures. Pure.

The dry run itself needs torch: trainer/child/dry.py, asked for by trainer/planning.py.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from trainer.plan import Hyperparameters, Method

MIB = 1 << 20
CONTEXT = 512 * MIB
"""The CUDA context with the workspaces of its libraries."""
ALLOCATOR = 0.2
"""What torch's allocator holds on a card over the tensors in it: 0.10 in the median of published
runs, 0.21 in one of ten."""
PROCESS = 850 * MIB
"""The process on a CPU before it loads anything, measured."""
HEAP = 0.15
"""What the C library's heap holds over the tensors in it."""


class DryRun(msgspec.Struct, frozen=True, kw_only=True, tag_field="ask", tag="dry"):
    """A question to the child; the answer is Peaks."""

    base: str
    """A Hugging Face folder; its config.json is all that is read."""
    method: Method
    device: Literal["cpu", "cuda"]
    candidates: tuple[Hyperparameters, ...]


class Peak(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of tensors, for one candidate; the rest of `peak` are activations and gradients."""

    peak: int
    base: int
    """Weights of the base."""
    adapter: int
    optimiser: int
    trainable: int
    """Parameters, not bytes."""
    unpacked: int = 0
    """What the layers that are quantised take before they are."""


class Peaks(msgspec.Struct, frozen=True, kw_only=True):
    """In the order of the candidates."""

    peaks: tuple[Peak, ...]


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes on the device, term by term; their sum is what a job takes from the ledger."""

    base: int
    adapter: int
    optimiser: int
    activations: int
    allocator: int
    runtime: int

    @property
    def total(self) -> int:
        return sum(getattr(self, name) for name in self.__struct_fields__)


def estimate(found: Peak, device: Literal["cpu", "cuda"]) -> Estimate:
    share = ALLOCATOR if device == "cuda" else HEAP
    return Estimate(
        base=found.base,
        adapter=found.adapter,
        optimiser=found.optimiser,
        activations=found.peak - found.base - found.adapter - found.optimiser,
        allocator=int(found.peak * share),
        # On a CPU the heap keeps what the layers took before they were quantised, as measured.
        runtime=CONTEXT if device == "cuda" else PROCESS + found.unpacked,
    )
