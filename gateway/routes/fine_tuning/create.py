"""What is asked for a new job, made one row. Pure; raises InvalidRequest that names the field."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from msgspec.structs import replace

from gateway.routes.admission import permits, visible
from shared import ids
from shared.catalog import Catalog, Entry
from shared.errors import (
    InvalidValue,
    ModelNotAllowed,
    ModelNotFound,
    UnsupportedParameter,
    UnsupportedValue,
)
from shared.settings import Settings
from shared.tuning import largest_rank, trainable
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
    extension = asked.aihub
    base = check_model(asked.model, account, catalog, settings)
    serving = check_serving(base, extension.served_by, account, catalog)
    check_rank(extension.rank, (base, *serving))
    return Created(
        id=ids.new("ftjob-"),
        project=account.project,
        key=account.key,
        name=None,
        model=base.name,
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
            served_by=tuple(entry.name for entry in serving),
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


def check_model(name: str, account: Account, catalog: Catalog, settings: Settings) -> Entry:
    if settings.train_python is None:
        raise UnsupportedValue(NO_TRAINER, param="model")
    entry = base_of(name, account, catalog, "model")
    if not trainable(entry.model):
        raise UnsupportedValue(
            f"{name!r} cannot be fine-tuned: it is no chat model whose weights are here and whose"
            " engine takes adapters.",
            param="model",
        )
    return entry


def check_serving(
    base: Entry, names: Sequence[str], account: Account, catalog: Catalog
) -> list[Entry]:
    """The models that are to serve the result beside its base, each once."""
    found: dict[str, Entry] = {}
    for at, name in enumerate(names):
        param = f"aihub.served_by[{at}]"
        entry = base_of(name, account, catalog, param)
        if largest_rank(entry.model) == 0:
            raise UnsupportedValue(f"The engine of {name!r} takes no adapters.", param=param)
        if entry.name in (base.name, *found):
            raise InvalidValue(f"{name!r} serves it already.", param=param)
        found[entry.name] = entry
    return list(found.values())


def check_rank(asked: int | None, serving: Sequence[Entry]) -> None:
    for entry in serving:
        largest = largest_rank(entry.model)
        if asked is not None and largest is not None and asked > largest:
            raise InvalidValue(
                f"The engine of {entry.name!r} takes adapters up to rank {largest}; its operator"
                " sets max_lora_rank.",
                param="aihub.rank",
            )


def base_of(name: str, account: Account, catalog: Catalog, param: str) -> Entry:
    """The model of that name, which is no adapter, and which this key may use."""
    try:
        entry = visible(catalog, account, name)
    except ModelNotFound as error:
        raise ModelNotFound(error.message, param=param) from None
    if not permits(catalog, account, entry):
        raise ModelNotAllowed(f"This key may not use the model {name!r}.", param=param)
    if entry.adapter is not None:
        raise UnsupportedValue(
            f"{name!r} is fine-tuned already; name its base {entry.base!r}.", param=param
        )
    return entry


def number(value: Auto | T) -> T | None:
    return None if value == "auto" else value
