"""Jobs, events and checkpoints as OpenAI's objects. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from shared.wire.openai.fine_tuning import (
    Fields,
    FineTuningJob,
    JobCheckpoint,
    JobEvent,
    JobExtension,
)
from shared.wire.training import Checkpoint, Event, Job

EVENT = "ftevent-"


def job(row: Job, *, brief: bool = False) -> FineTuningJob:
    """`brief`: with the fields of /api/v1/training/jobs."""
    chosen = hyperparameters(row)
    return FineTuningJob(
        id=row.id,
        created_at=row.created_at,
        error=row.error,
        fine_tuned_model=row.fine_tuned_model,
        finished_at=row.finished_at,
        hyperparameters={k: v for k, v in chosen.items() if k != "beta"},
        model=row.model,
        organization_id=row.organisation,
        result_files=() if row.result_file is None else (row.result_file,),
        status=row.status,
        trained_tokens=row.trained_tokens,
        training_file=row.training_file,
        validation_file=row.validation_file,
        seed=row.seed,
        estimated_finish=row.estimated_finish,
        metadata=row.metadata,
        method={"type": row.method, row.method: {"hyperparameters": chosen}},
        aihub=JobExtension(
            project=row.project,
            name=row.name,
            step=row.step,
            steps=row.steps,
            plan=chosen_plan(row),
            metrics=row.metrics,
            waiting=row.waiting,
            place=row.place,
            overtaken=row.overtaken,
        ),
        base_model=row.model if brief else UNSET,
        dataset_path=row.training_file if brief else UNSET,
        training_type=(row.asked.training_type or "qlora") if brief else UNSET,
    )


def hyperparameters(row: Job) -> Fields:
    """Those of OpenAI's wire: as they were chosen, `auto` before that."""
    asked = row.asked
    chosen: Fields = {
        "n_epochs": asked.epochs or "auto",
        "batch_size": asked.batch or "auto",
        "learning_rate_multiplier": asked.multiplier or "auto",
    }
    if row.method == "dpo":
        chosen["beta"] = asked.beta or "auto"
    known = resolved(row)
    if known is not None:
        chosen["n_epochs"] = known["epochs"]
        chosen["batch_size"] = known["batch"] * known["accumulation"]
        chosen["learning_rate_multiplier"] = asked.multiplier or 1.0
        if row.method == "dpo":
            chosen["beta"] = known["beta"]
    return chosen


class Inner(msgspec.Struct):
    hyperparameters: dict[str, Any]


class Kept(msgspec.Struct):
    """What a trainer kept of its plan, as far as it is shown."""

    plan: Inner


SHOWN = ("steps", "tokens", "reasons", "estimate", "sizes", "time")


def resolved(row: Job) -> dict[str, Any] | None:
    if row.plan is None:
        return None
    return msgspec.convert(row.plan, Kept).plan.hyperparameters


def chosen_plan(row: Job) -> Fields | None:
    """Without the places where things lie."""
    known = resolved(row)
    if known is None or row.plan is None:
        return None
    return {
        "hyperparameters": known,
        **{name: row.plan[name] for name in SHOWN if name in row.plan},
    }


def event(row: Event) -> JobEvent:
    return JobEvent(
        id=f"{EVENT}{row.number:016x}",
        created_at=row.created_at,
        level=row.level,
        message=row.message,
        type=row.type,
        data=row.data,
    )


def event_number(id_: str) -> int | None:
    """The number of the event with this id; None for what is no such id."""
    text = id_.removeprefix(EVENT)
    if text == id_ or len(text) != 16:
        return None
    try:
        number = int(text, 16)
    except ValueError:
        return None
    return number if number < 1 << 63 else None


def checkpoint(row: Checkpoint, job_id: str) -> JobCheckpoint:
    return JobCheckpoint(
        id=row.id,
        created_at=row.created_at,
        fine_tuned_model_checkpoint=row.model,
        fine_tuning_job_id=job_id,
        metrics=row.metrics,
        step_number=row.step,
    )
