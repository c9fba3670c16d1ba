"""A fine-tuning job as it is stored."""

from __future__ import annotations

from typing import Literal

import msgspec

from shared.wire.openai.fine_tuning import (
    EventType,
    Fields,
    JobError,
    Level,
    Status,
    TrainingType,
)

Method = Literal["supervised", "dpo"]


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Hyperparameters as they were asked for; None: chosen for the base model and the data."""

    epochs: int | None = None
    batch: int | None = None
    """Examples a step."""
    multiplier: float | None = None
    """Of the learning rate."""
    beta: float | None = None
    training_type: TrainingType | None = None
    rank: int | None = None
    alpha: int | None = None
    max_length: int | None = None
    learning_rate: float | None = None
    prompts: tuple[str, ...] = ()
    served_by: tuple[str, ...] = ()
    """Models beside its own, whose engines serve the result."""
    hold: bool = False
    """It pauses once it is planned."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """`plan` is None until the files are validated."""

    id: str
    project: str
    organisation: str
    name: str | None
    model: str
    method: Method
    status: Status
    training_file: str
    validation_file: str | None
    asked: Asked
    plan: Fields | None
    suffix: str | None
    seed: int
    metadata: dict[str, str]
    step: int
    steps: int | None
    fine_tuned_model: str | None
    trained_tokens: int | None
    result_file: str | None
    metrics: Fields | None
    error: JobError | None
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    waiting: str | None
    """For what, where there is no room for it."""
    place: int | None
    """Of those that wait, counted from 1; None: it does not wait."""
    overtaken: int
    """Jobs that began before it while there was no room for it."""


class Created(msgspec.Struct, frozen=True, kw_only=True):
    """A job about to be stored."""

    id: str
    project: str
    key: str
    name: str | None
    model: str
    method: Method
    training_file: str
    validation_file: str | None
    asked: Asked
    suffix: str | None
    seed: int
    metadata: dict[str, str]


class Claim(msgspec.Struct, frozen=True):
    """A job is this trainer's for a while; who claims it later has a larger `fence`, and what an
    earlier one still says is not taken."""

    id: str
    fence: int
    starts: int
    """Children that were started since the last step."""
    overtaken: int = 0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Of a job that succeeded; `file` has its metrics by step, None: they could not be kept."""

    tokens: int
    metrics: Fields
    file: str | None


class Note(msgspec.Struct, frozen=True):
    """An event to be stored."""

    message: str
    level: Level = "info"
    type: EventType = "message"
    data: Fields = {}


class Event(msgspec.Struct, frozen=True):
    number: int
    created_at: int
    level: Level
    type: EventType
    message: str
    data: Fields


class Metric(msgspec.Struct, frozen=True):
    """What is known of one step."""

    step: int
    train_loss: float | None
    train_accuracy: float | None
    valid_loss: float | None
    valid_accuracy: float | None


class Point(msgspec.Struct, frozen=True):
    """Of a curve."""

    step: int
    name: Literal["train_loss", "valid_loss"]
    loss: float


class Checkpoint(msgspec.Struct, frozen=True):
    id: str
    step: int
    model: str
    metrics: Fields
    created_at: int


class TunedModel(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter that is a model; `path` is relative to <home>."""

    name: str
    project: str
    base: str
    job: str
    path: str
    bytes: int
    created_at: int
    shared: frozenset[str]
    """Other projects that may use it."""


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """A model about to be offered; `step`: of the checkpoint that it is, None for the result."""

    name: str
    base: str
    path: str
    bytes: int
    step: int | None = None
