"""From what a job asks for, and what its files hold, to the plan that a child is given. Pure."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NamedTuple

from shared.settings import Model, Settings
from shared.wire.training import Job
from trainer.plan import Hyperparameters, Plan

FEWEST, MOST = 100, 25_000
"""Examples that are trained on, over all epochs, as far as the epochs reach."""
USUAL_EPOCHS, MOST_EPOCHS = 3, 25
LEARNING_RATE = 2e-4
DPO_LEARNING_RATE = 5e-5
CHARACTERS = 2
"""Of one token, at least: what bounds an example's tokens before anybody counts them."""


class Data(NamedTuple):
    """`longest` is in characters."""

    train: Path
    validation: Path | None
    examples: int
    longest: int


class UntrainableError(Exception):
    """The job cannot be run as it is; the message is for its owner."""


def plan(job: Job, data: Data, settings: Settings) -> Plan:
    """Raises UntrainableError."""
    model = settings.models.get(job.model)
    if model is None:
        raise UntrainableError(f"The model {job.model!r} is not in the trainer's settings.")
    base = weights(job.model, model, settings)
    gguf = settings.folder / "models" / Path(model.file or "").expanduser()
    return Plan(
        job=job.id,
        base=str(base),
        base_gguf=str(gguf) if model.engine == "llamacpp" and gguf.is_file() else None,
        method=job.method,
        train=str(data.train),
        validation=None if data.validation is None else str(data.validation),
        prompts=job.asked.prompts,
        hyperparameters=hyperparameters(job, data, model, settings),
        device="cpu" if settings.train_device == "cpu" else "cuda",
        threads=max(1, (os.cpu_count() or 1) - 1),
    )


def weights(name: str, model: Model, settings: Settings) -> Path:
    named = model.train_weights or model.weights
    if named is None:
        raise UntrainableError(f"The settings of {name!r} name no weights to train on.")
    path = settings.folder / "models" / Path(named).expanduser()
    if not (path / "config.json").is_file():
        raise UntrainableError(f"The weights to train {name!r} on are not at {path}.")
    return path


def hyperparameters(job: Job, data: Data, model: Model, settings: Settings) -> Hyperparameters:
    asked, cpu = job.asked, settings.train_device == "cpu"
    epochs = asked.epochs or usual_epochs(data.examples)
    batch, accumulation = batches(asked.batch or usual_batch(data.examples))
    steps = epochs * math.ceil(data.examples / (batch * accumulation))
    rank = asked.rank or model.max_lora_rank or 16
    usual = DPO_LEARNING_RATE if job.method == "dpo" else LEARNING_RATE
    return Hyperparameters(
        epochs=epochs,
        batch=batch,
        accumulation=accumulation,
        learning_rate=asked.learning_rate or usual * (asked.multiplier or 1.0),
        rank=rank,
        alpha=asked.alpha or 2 * rank,
        max_length=asked.max_length or longest(data, model),
        seed=job.seed,
        quantise="none" if asked.training_type == "lora" else "nf4",
        dtype="float32" if cpu else "bfloat16",
        optimiser="adamw" if cpu else "paged_adamw_8bit",
        checkpointing=not cpu,
        beta=asked.beta or 0.1,
        checkpoint_every=max(1, min(50, steps // 4)),
        validate_every=max(1, steps // 10) if data.validation is not None else 0,
    )


def usual_epochs(examples: int) -> int:
    """Three, moved so that neither too few nor too many examples are seen."""
    if examples * USUAL_EPOCHS < FEWEST:
        return min(MOST_EPOCHS, math.ceil(FEWEST / examples))
    if examples * USUAL_EPOCHS > MOST:
        return max(1, MOST // examples)
    return USUAL_EPOCHS


def usual_batch(examples: int) -> int:
    """A five hundredth of the examples, from 4 to 64."""
    return max(4, min(64, examples // 500))


def batches(size: int) -> tuple[int, int]:
    """Examples computed at once, at most 4, and batches of a step; their product is the size."""
    at_once = next(each for each in (4, 3, 2, 1) if size % each == 0)
    return at_once, size // at_once


def longest(data: Data, model: Model) -> int:
    """What holds every example, if that is within the model's context."""
    return max(64, min(model.context, math.ceil(data.longest / CHARACTERS) + 64))
