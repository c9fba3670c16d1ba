"""What engines are said to take."""

from __future__ import annotations

from shared.estimate import Estimate


def estimate(weights: int) -> Estimate:
    """All of it weights."""
    return Estimate(
        engine="vllm",
        device="cuda",
        context=1,
        parallel=1,
        weights=weights,
        kv_cache=0,
        activations=0,
        logits=0,
        runtime=0,
    )
