"""What a request costs, in whole micro-units of money, rounded up once per request. Pure."""

from __future__ import annotations

from shared.wire.account import Price

MILLION = 1_000_000


def cost(price: Price | None, prompt: int, cached: int, completion: int, gpu_ms: int) -> int:
    """Of a request as it was counted; `cached` of the prompt's tokens cost less, or more."""
    if price is None:
        return 0
    fresh = max(0, prompt - cached)
    tokens = fresh * price.input + cached * price.cached + completion * price.output
    return -(-(tokens + gpu_ms * 1000 * price.gpu_second) // MILLION)


def dearest(price: Price | None, prompt: int, completion: int, gpu_ms: int) -> int:
    """What a request costs at most that counts no more than this, however much is cached."""
    if price is None:
        return 0
    return cost(price, prompt, prompt if price.cached > price.input else 0, completion, gpu_ms)
