"""What a job is trained with, from its base, its data, its device and the user's wishes. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import msgspec

from trainer.plan import Dtype, Hyperparameters, Method, Quantisation

EPOCHS, LEAST_EPOCHS, MOST_EPOCHS = 3, 1, 25
LEAST_SEEN, MOST_SEEN = 100, 25_000
"""Examples that all epochs together should show."""
STEPS = 30
"""Below so many steps a small model learned no fact of its data, where this was measured."""
BATCHES = (1, 2, 4, 8, 16)
LARGEST_BATCH = 256
RATE = 5e-4
"""At WIDTH; narrower models take more, wider ones less."""
WIDTH, POWER = 2000, 0.775
LOWEST_RATE, HIGHEST_RATE = 5e-5, 1.5e-3
DPO_SHARE = 0.25
"""Of the rate for examples: a preference moves a model much further."""
RANK = 16
CHECKPOINTS = 10
"""Of a job, at most."""
LARGE = 1_000_000_000
"""Parameters from which a base is quantised on a card unless it is told otherwise."""


Value = TypeVar("Value")


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """Of its config.json."""

    parameters: int
    hidden: int
    context: int


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """Of the training file, by the base's tokenizer."""

    examples: int
    tokens: int
    """Of one epoch, uncut."""
    longest: int
    p99: int
    """Tokens that 99 of 100 examples do not exceed."""
    validated: bool


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """Where it is trained; `bf16` where the card computes in it."""

    device: str
    bf16: bool = False


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asked for; None leaves it to the recipe."""

    method: Method = "supervised"
    epochs: int | None = None
    batch: int | None = None
    """Examples of one step."""
    learning_rate: float | None = None
    learning_rate_multiplier: float | None = None
    beta: float | None = None
    rank: int | None = None
    largest_rank: int | None = None
    """That the engines which are to serve the adapter take; None: any."""
    alpha: int | None = None
    dropout: float | None = None
    max_length: int | None = None
    quantise: Quantisation | None = None
    seed: int = 0


class Reason(msgspec.Struct, frozen=True):
    """Why a hyperparameter has its value."""

    name: str
    value: str
    why: str


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    hyperparameters: Hyperparameters
    steps: int
    reasons: tuple[Reason, ...]


class Chosen:
    """Values with their reasons, as they are found."""

    def __init__(self) -> None:
        self.reasons: list[Reason] = []

    def because(self, name: str, value: Value, why: str) -> Value:
        told = f"{value:.3g}" if isinstance(value, float) else str(value)
        self.reasons.append(Reason(name, told, why))
        return value


def recipe(base: Base, data: Data, site: Site, wishes: Wishes) -> Recipe:
    """Everything resolved; `batch` may still have to shrink to fit: see `fitting`."""
    chosen = Chosen()
    epochs, together = rounds(data.examples, wishes, chosen)
    steps = epochs * math.ceil(data.examples / together)
    rank = wishes.rank or chosen.because("rank", *usual_rank(wishes))
    made = Hyperparameters(
        epochs=epochs,
        batch=together,
        accumulation=1,
        learning_rate=rate(base, wishes, chosen),
        rank=rank,
        alpha=wishes.alpha or chosen.because("alpha", 2 * rank, "twice the rank"),
        dropout=wishes.dropout or 0.0,
        max_length=length(base, data, wishes, chosen),
        seed=wishes.seed,
        quantise=quantisation(base, site, wishes, chosen),
        dtype=dtype(site, chosen),
        optimiser="adamw" if site.device == "cpu" else "paged_adamw_8bit",
        checkpointing=site.device != "cpu",
        beta=wishes.beta or 0.1,
        checkpoint_every=math.ceil(steps / CHECKPOINTS),
        validate_every=math.ceil(steps / CHECKPOINTS) if data.validated else 0,
    )
    return Recipe(hyperparameters=made, steps=steps, reasons=tuple(chosen.reasons))


def rounds(examples: int, wishes: Wishes, chosen: Chosen) -> tuple[int, int]:
    """Epochs, and examples of one step."""
    epochs = wishes.epochs or chosen.because("n_epochs", *auto_epochs(examples))
    if wishes.batch is not None:
        return epochs, min(wishes.batch, examples)
    fitting = [size for size in BATCHES if epochs * math.ceil(examples / size) >= STEPS]
    large = examples // 500
    batch = min(max(fitting, default=1), max(4, large), examples)
    return epochs, chosen.because(
        "batch_size", batch, f"{epochs * math.ceil(examples / batch)} steps of learning"
    )


def auto_epochs(examples: int) -> tuple[int, str]:
    """As OpenAI's published rule: 3, moved so that 100 to 25,000 examples are seen."""
    if examples * EPOCHS < LEAST_SEEN:
        epochs = min(MOST_EPOCHS, math.ceil(LEAST_SEEN / max(1, examples)))
        return epochs, f"{examples} examples are few: each is seen more often"
    if examples * EPOCHS > MOST_SEEN:
        epochs = max(LEAST_EPOCHS, MOST_SEEN // examples)
        return epochs, f"{examples} examples are many: each is seen less often"
    return EPOCHS, "the common choice"


def rate(base: Base, wishes: Wishes, chosen: Chosen) -> float:
    if wishes.learning_rate is not None:
        return wishes.learning_rate * (wishes.learning_rate_multiplier or 1.0)
    by_width = RATE * math.pow(WIDTH / base.hidden, POWER)
    found = min(HIGHEST_RATE, max(LOWEST_RATE, by_width))
    why = f"for adapters of a model of width {base.hidden}"
    if wishes.method == "dpo":
        found, why = found * DPO_SHARE, f"{why}, a quarter for preferences"
    if wishes.learning_rate_multiplier is not None:
        found *= wishes.learning_rate_multiplier
        why = f"{why}, times {wishes.learning_rate_multiplier:g} as asked"
    return chosen.because("learning_rate", found, why)


def usual_rank(wishes: Wishes) -> tuple[int, str]:
    if wishes.largest_rank is not None and wishes.largest_rank < RANK:
        return wishes.largest_rank, "the largest that its engine takes"
    return RANK, "enough for facts and style of small sets"


def length(base: Base, data: Data, wishes: Wishes, chosen: Chosen) -> int:
    if wishes.max_length is not None:
        return min(wishes.max_length, base.context)
    if data.longest > base.context:
        return chosen.because("max_length", base.context, "the base's context; longer is cut")
    found = min(base.context, 64 * math.ceil(data.longest / 64))
    return chosen.because("max_length", found, "the longest example, uncut")


def quantisation(base: Base, site: Site, wishes: Wishes, chosen: Chosen) -> Quantisation:
    if wishes.quantise is not None:
        return wishes.quantise
    if site.device != "cpu" and base.parameters >= LARGE:
        return chosen.because("quantise", "nf4", "a quarter of the memory for weights")
    why = "on a CPU it saves memory only" if site.device == "cpu" else "the base is small"
    return chosen.because("quantise", "none", why)


def dtype(site: Site, chosen: Chosen) -> Dtype:
    if site.device == "cpu":
        return chosen.because("dtype", "float32", "the fastest on a CPU")
    if site.bf16:
        return chosen.because("dtype", "bfloat16", "the card computes in it")
    return chosen.because("dtype", "float16", "the card has no bfloat16")


def candidates(made: Hyperparameters) -> list[Hyperparameters]:
    """The same steps computed in smaller and smaller batches: same result, less memory."""
    together = made.batch * made.accumulation
    sizes = [size for size in range(together, 0, -1) if together % size == 0]
    return [
        msgspec.structs.replace(made, batch=size, accumulation=together // size) for size in sizes
    ]


def fitting(
    made: Hyperparameters, size: Callable[[Hyperparameters], int], room: int
) -> Hyperparameters | None:
    """The largest batch whose bytes fit; None: not even one example at a time does."""
    return next((each for each in candidates(made) if size(each) <= room), None)
