"""How long a job will take: operations of a token over the speed of the device. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Literal

import msgspec

from shared.training_run import Ran, Setup
from shared.weights import Shape
from trainer.plan import Dtype, Hyperparameters, Method

CPU_SHARE = 0.5
"""Of a plain product's speed that training reached on a CPU, measured."""
CARD_SHARE = 0.3
"""Of what a card's maker states: what published runs of adapters reach."""
STATED: tuple[tuple[str, float], ...] = (
    ("H200", 989e12),
    ("H100", 989e12),
    ("A100", 312e12),
    ("L40S", 362e12),
    ("RTX 5090", 210e12),
    ("RTX 4090", 165e12),
    ("A6000", 155e12),
    ("A10", 125e12),
    ("V100", 125e12),
    ("L4", 121e12),
    ("RTX 3090", 71e12),
    ("T4", 65e12),
)
"""Operations a second with 16 bits, dense, by a part of the product's name."""


class Gauge(msgspec.Struct, frozen=True, kw_only=True, tag_field="ask", tag="gauge"):
    """A question to the child: how fast the CPU multiplies; the answer is a Pace."""

    dtype: Dtype
    threads: int


class Pace(msgspec.Struct, frozen=True):
    operations: float
    """A second."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What a job computes."""

    tokens: int
    """Trained on, in all epochs."""
    judged: int
    """Read to validate, in all validations."""
    work: float
    """Operations for a token of training."""
    forward: float
    """Operations for a token that is only read."""


class Duration(msgspec.Struct, frozen=True, kw_only=True):
    seconds: float
    tokens_per_second: float
    basis: Literal["measured", "estimated"]
    """measured: in earlier runs of this base, trained alike on this kind of device."""
    source: str


def forward(shape: Shape, length: float) -> float:
    """Operations for one token of a text with `length`; of a mixture, as if one expert answered."""
    kept = sum(layer.whole or layer.values for layer in shape.layers)
    layers = len(shape.layers)
    projections = layers * 2 * shape.hidden * shape.query + shape.hidden * kept
    fed = layers * shape.hidden * shape.feed_forward * (3 if shape.gated else 2)
    head = shape.hidden * shape.vocabulary
    attention = layers * shape.query * length
    return 2.0 * (projections + fed + head + attention)


def passes(method: Method, *, checkpointing: bool) -> int:
    """Times a token is computed: forward and back, without gradients of the base's own weights."""
    return 2 + checkpointing + (method == "dpo")


def load(
    shape: Shape, chosen: Hyperparameters, method: Method, steps: int, read: Read, judged: Read
) -> Load:
    """`judged` is the validation file, without tokens where there is none."""
    once = forward(shape, read.tokens / max(1, read.samples))
    every = chosen.validate_every
    times = (1 + math.ceil(steps / every) if every else 2) if judged.tokens else 0
    return Load(
        tokens=read.tokens * chosen.epochs,
        judged=judged.tokens * times,
        work=once * passes(method, checkpointing=chosen.checkpointing),
        forward=once,
    )


class Read(msgspec.Struct, frozen=True):
    """A file, once."""

    tokens: int = 0
    samples: int = 0


def duration(
    load: Load, setup: Setup, runs: Sequence[Ran], plain: float | None = None
) -> Duration | None:
    """By earlier runs on this kind of device, else by `plain`: operations a second of the device
    itself. None: nothing is known of it."""
    runs = [ran for ran in runs if not ran.short]
    alike = [ran for ran in runs if kind(ran) == kind(setup)]
    if alike:
        near = min(alike, key=lambda ran: distance(ran, setup))
        found, around = near.tokens_per_second, near.around
        return told(load, found, around, "measured", "earlier runs of this base")
    paces = [ran.tokens_per_second * ran.work for ran in runs if ran.dtype == setup.dtype]
    if paces:
        found, around = median(paces) / load.work, median(ran.around for ran in runs)
        return told(load, found, around, "estimated", "runs of other bases on this device")
    if plain is None:
        return None
    share, source = (
        (CPU_SHARE, "the speed of a product on this CPU")
        if setup.dtype == "float32"
        else (CARD_SHARE, "what the card's maker states")
    )
    return told(load, share * plain / load.work, 0.0, "estimated", source)


def told(
    load: Load, pace: float, around: float, basis: Literal["measured", "estimated"], source: str
) -> Duration:
    judging = load.judged * load.forward / load.work
    return Duration(
        seconds=(load.tokens + (0.0 if around else judging)) / pace + around,
        tokens_per_second=pace,
        basis=basis,
        source=source,
    )


def kind(setup: Setup) -> tuple[object, ...]:
    return (
        setup.base,
        setup.weights,
        setup.method,
        setup.quantise,
        setup.dtype,
        setup.checkpointing,
    )


def distance(ran: Ran, setup: Setup) -> float:
    """How different the sizes of their steps are."""
    return abs(math.log(ran.batch * ran.length / (setup.batch * setup.length)))


def stated(device: str) -> float | None:
    """Of a card, by its product name."""
    return next((found for part, found in STATED if part in device), None)
