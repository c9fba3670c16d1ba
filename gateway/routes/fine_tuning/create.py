"""What is asked for a new job, made one row. Pure; raises InvalidRequest that names the field."""

from __future__ import annotations

import random
from typing import TypeVar

from msgspec.structs import replace

from gateway.routes.admission import permits, visible
from shared import ids
from shared.catalog import Catalog
from shared.errors import InvalidValue, ModelNotAllowed, UnsupportedParameter, UnsupportedValue
from shared.settings import Model, Settings
from shared.wire.account import Account
from shared.wire.openai.fine_tuning import (
    Auto,
    Dpo,
    DpoMethod,
    JobCreate,
    Supervised,
    SupervisedMethod,
    TrainingCreate,
)
from shared.wire.training import Asked, Created, Method

T = TypeVar("T", int, float)
NO_TRAINER = (
    "This hub does not fine-tune: no trainer is set up. Its operator sets train_python to the"
    " interpreter of an environment with torch, trl and peft."
)


def created(asked: JobCreate, account: Account, catalog: Catalog, settings: Settings) -> Created:
    """The row of a job. Its files are looked up by whoever stores it."""
    if asked.integrations:
        raise UnsupportedParameter(
            "Integrations are not supported: progress is in the job's events and metrics.",
            param="integrations",
        )
    method, chosen = hyperparameters(asked)
    check_model(asked.model, account, catalog, settings)
    extension = asked.aihub
    return Created(
        id=ids.new("ftjob-"),
        project=account.project,
        key=account.key,
        name=None,
        model=catalog.find(asked.model).name,
        method=method,
        training_file=asked.training_file,
        validation_file=asked.validation_file,
        asked=Asked(
            epochs=number(chosen.n_epochs),
            batch=number(chosen.batch_size),
            multiplier=number(chosen.learning_rate_multiplier),
            beta=number(chosen.beta) if isinstance(chosen, Dpo) else None,
            training_type=extension.training_type,
            rank=extension.rank,
            alpha=extension.alpha,
            max_length=extension.max_length,
            learning_rate=extension.learning_rate,
            prompts=extension.prompts,
            hold=extension.hold,
        ),
        suffix=asked.suffix,
        seed=random.randrange(1 << 31) if asked.seed is None else asked.seed,
        metadata=asked.metadata or {},
    )


def expanded(brief: TrainingCreate) -> JobCreate:
    """The job that POST /api/v1/training/jobs means."""
    job = JobCreate(brief.base_model, brief.dataset_path, suffix=brief.name)
    return replace(job, aihub=replace(job.aihub, training_type=brief.training_type))


def hyperparameters(asked: JobCreate) -> tuple[Method, Supervised]:
    """The method, and what was asked of it."""
    if asked.method is None:
        return "supervised", asked.hyperparameters or Supervised()
    name = asked.method.type
    if name == "reinforcement":
        raise UnsupportedValue(
            "Reinforcement fine-tuning is not supported; 'supervised' and 'dpo' are.",
            param="method.type",
        )
    given = {
        "supervised": asked.method.supervised,
        "dpo": asked.method.dpo,
        "reinforcement": asked.method.reinforcement,
    }
    for other, value in given.items():
        if value is not None and other != name:
            raise InvalidValue(
                f"'method.{other}' does not go with the method {name!r}.", param=f"method.{other}"
            )
    if asked.hyperparameters is not None and given[name] is not None:
        raise InvalidValue(
            f"Give either 'hyperparameters' or 'method.{name}'.", param="hyperparameters"
        )
    if asked.hyperparameters is not None and name == "supervised":
        return name, asked.hyperparameters
    if asked.hyperparameters is not None:
        raise InvalidValue(
            "'hyperparameters' is for supervised jobs; use 'method.dpo'.", param="hyperparameters"
        )
    if name == "dpo":
        return name, (asked.method.dpo or DpoMethod()).hyperparameters
    return name, (asked.method.supervised or SupervisedMethod()).hyperparameters


def check_model(name: str, account: Account, catalog: Catalog, settings: Settings) -> None:
    if settings.train_python is None:
        raise UnsupportedValue(NO_TRAINER, param="model")
    entry = visible(catalog, account, name)
    if not permits(catalog, account, entry):
        raise ModelNotAllowed(f"This key may not use the model {name!r}.", param="model")
    if entry.adapter is not None:
        raise UnsupportedValue(
            f"{name!r} is fine-tuned already; name its base {entry.base!r}.", param="model"
        )
    if not trainable(entry.model):
        raise UnsupportedValue(
            f"{name!r} cannot be fine-tuned: it is no chat model whose weights are here.",
            param="model",
        )


def trainable(model: Model) -> bool:
    """Whether the settings say where the weights are that an adapter is trained on."""
    return model.kind == "chat" and (
        model.train_weights is not None
        or (model.engine in ("vllm", "transformers") and model.weights is not None)
        or model.engine == "llamacpp"
    )


def number(value: Auto | T) -> T | None:
    return None if value == "auto" else value
