"""How fast a CPU multiplies: the bound of everything that is computed on it."""

from __future__ import annotations

import time

import torch

from trainer.speed import Gauge, Pace

SIZE = 768
LEAST = 0.3
"""Seconds."""


def gauge(asked: Gauge) -> Pace:
    """The best of several products; others on the machine only make it slower."""
    torch.set_num_threads(asked.threads)
    left = torch.ones((SIZE, SIZE), dtype=getattr(torch, asked.dtype))
    right = torch.ones_like(left)
    best, began = float("inf"), time.perf_counter()
    while (begun := time.perf_counter()) - began < LEAST:
        torch.mm(left, right)
        best = min(best, time.perf_counter() - begun)
    return Pace(2.0 * SIZE**3 / best)
