"""Twelve real models of a 16 GB card, and seeded traffic for them: bursts, Zipf popularity."""

from __future__ import annotations

import math
import random
from typing import NamedTuple

from shared.wire.task import Class
from worker.residency import GIB, Plan

CARD = 16 * GIB - 700 * 1024 * 1024
"""A 16 GB card less what driver, display and safety margin take."""
CONTEXT = 8192
RUNTIME = 420 * 1024 * 1024
"""Device context and compute buffers of one engine."""
DISK = 1.6e9
"""Bytes a second from disk to device."""
PCIE = 9e9
"""Bytes a second from host memory to device."""
START = 2.5
"""Seconds of an engine's start beside reading."""


class Weights(NamedTuple):
    """A published GGUF: file bytes, and the shape that the KV cache follows from."""

    file: float
    layers: int
    kv_heads: int
    head: int


CATALOG = {
    "qwen2.5-7b-instruct.q4_k_m": Weights(4.68e9, 28, 4, 128),
    "llama-3.1-8b-instruct.q4_k_m": Weights(4.92e9, 32, 8, 128),
    "bge-m3.f16": Weights(1.16e9, 24, 0, 64),
    "qwen2.5-coder-7b-instruct.q8_0": Weights(8.10e9, 28, 4, 128),
    "llama-3.2-3b-instruct.q4_k_m": Weights(2.02e9, 28, 8, 128),
    "phi-4.q4_k_m": Weights(9.05e9, 40, 10, 128),
    "mistral-7b-instruct-v0.3.q4_k_m": Weights(4.37e9, 32, 8, 128),
    "gemma-2-9b-it.q4_k_m": Weights(5.76e9, 42, 8, 256),
    "qwen2.5-14b-instruct.q4_k_m": Weights(8.99e9, 48, 8, 128),
    "smollm2-1.7b-instruct.q8_0": Weights(1.82e9, 24, 32, 64),
    "mistral-nemo-12b-instruct.q4_k_m": Weights(7.48e9, 40, 8, 128),
    "mistral-small-24b-instruct.q3_k_m": Weights(11.47e9, 40, 8, 128),
}
"""Most wanted first."""


class Asked(NamedTuple):
    """One request: `seconds` is how long the engine works on it."""

    at: float
    model: str
    service: Class
    seconds: float


def plans(*, sleep: bool = False, keep_alive: float = -1.0) -> dict[str, Plan]:
    return {
        name: Plan(
            size=(
                size := math.ceil(w.file + w.layers * w.kv_heads * w.head * 4 * CONTEXT + RUNTIME)
            ),
            load_seconds=round(START + w.file / DISK, 1),
            places=4,
            keep_alive=keep_alive,
            can_sleep=sleep,
            asleep_size=RUNTIME if sleep else 0,
            host_size=size - RUNTIME if sleep else 0,
            wake_seconds=round(0.3 + w.file / PCIE, 2),
        )
        for name, w in CATALOG.items()
    }


def trace(seed: int, requests: int, every: float) -> list[Asked]:
    """Sessions begin every `every` seconds on average, each with one model and eight requests."""
    random_ = random.Random(seed)
    names = list(CATALOG)
    weights = [1 / (rank + 1) ** 1.1 for rank in range(len(names))]
    found: list[Asked] = []
    begin = 0.0
    while len(found) < requests * 1.1:
        begin += random_.expovariate(1 / every)
        model = random_.choices(names, weights)[0]
        draw = random_.random()
        service: Class = "interactive" if draw < 0.8 else "standard" if draw < 0.95 else "batch"
        at = begin
        for _ in range(1 + int(random_.expovariate(1 / 7.5))):
            pace = CATALOG[model].file / 1e9 * random_.lognormvariate(-0.3, 0.7)
            found.append(Asked(round(at, 3), model, service, round(min(60.0, 0.3 + pace), 3)))
            at += random_.expovariate(1 / (0.5 if service == "batch" else 9.0))
    return sorted(found)[:requests]
