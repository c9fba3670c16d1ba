"""What vLLM's command line allows, and what it takes to run adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.settings import Model

RANK = 16
"""Of adapters, where the settings do not say the largest."""
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes for --max-lora-rank."""
OURS = frozenset(
    (
        *("--uds", "--host", "--port", "--api-key", "--root-path", "--model", "--config"),
        *("--served-model-name", "--kv-cache-memory-bytes", "--gpu-memory-utilization"),
        *("--max-model-len", "--max-num-seqs", "--dtype", "--quantization", "--enable-lora"),
        *("--max-loras", "--max-lora-rank", "--tensor-parallel-size", "--tool-call-parser"),
        *("--enable-sleep-mode", "--lora-modules", "--headless", "--runner"),
    )
)
"""Flags that follow from the other settings."""


def adapter_rank(model: Model) -> int | None:
    """The largest rank an adapter may have; None: the engine takes no adapters."""
    if model.max_lora_rank is not None:
        return model.max_lora_rank or None
    return RANK if model.adapters else None


def lora_slots(max_loras: int, *, on_cpu: bool) -> int:
    """Places for adapters beside the weights; on a CPU one of them is the plain model's.

    vLLM 0.32 on a CPU computes the plain model's rows of a mixed batch with whatever adapter is in
    the last place: their index is -1. So the plain model is asked as an adapter that is empty.
    """
    return max_loras + 1 if on_cpu else max_loras
