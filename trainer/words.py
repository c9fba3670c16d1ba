"""What a child reports, as events of the job. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shared.wire.openai.fine_tuning import Fields
from shared.wire.training import Metric, Note
from trainer import report
from trainer.planning import Planned

PHASES = {
    "importing": "Fine-tuning job started",
    "loading": "Loading the base model",
    "reading": "Reading the training data",
    "training": "Training",
    "answering": "Answering the test prompts",
    "writing": "Writing the adapter",
}


def plain(struct: msgspec.Struct) -> Fields:
    """Without what is None, and without the tag."""
    return {
        field: value for field, value in msgspec.structs.asdict(struct).items() if value is not None
    }


def chosen(made: Planned) -> Fields:
    return {
        "hyperparameters": msgspec.to_builtins(made.plan.hyperparameters),
        "steps": made.steps,
        "tokens_per_epoch": made.tokens,
        "estimated_bytes": made.sizes[0].bytes,
        "estimated_seconds": None if made.time is None else made.time.seconds,
    }


def note(
    said: report.Phase | report.Started | report.Validation | report.Sample,
) -> Note:
    match said:
        case report.Phase():
            return Note(PHASES[said.name])
        case report.Started():
            return started(said)
        case report.Validation():
            return validation(said)
        case report.Sample():
            return Note("Answered a test prompt", data=plain(said))


def started(said: report.Started) -> Note:
    begins = f"Goes on behind step {said.step}" if said.step else f"{said.of} steps"
    text = f"{begins}: {said.examples} examples an epoch"
    if said.truncated or said.dropped:
        text += f", {said.truncated} cut at the greatest length, {said.dropped} left out"
    return Note(text, level="warn" if said.dropped else "info", data=plain(said))


def step(said: report.Step) -> Note:
    data: Fields = {
        "step": said.step,
        "total_steps": said.of,
        "train_loss": said.loss,
        "learning_rate": said.lr,
        "grad_norm": said.grad_norm,
        "tokens": said.tokens,
        "tokens_per_second": said.tokens_per_second,
        "eta_seconds": said.eta,
        "memory_bytes": said.memory,
    }
    if said.accuracy is not None:
        data["train_mean_token_accuracy"] = said.accuracy
    if said.margin is not None:
        data["reward_margin"] = said.margin
    text = f"Step {said.step}/{said.of}: training loss={said.loss:.4f}"
    return Note(text, type="metrics", data=data)


def validation(said: report.Validation) -> Note:
    data: Fields = {"step": said.step, "valid_loss": said.loss, "full_valid_loss": said.loss}
    if said.accuracy is not None:
        data["valid_mean_token_accuracy"] = said.accuracy
        data["full_valid_mean_token_accuracy"] = said.accuracy
    if said.margin is not None:
        data["reward_margin"] = said.margin
    if said.preferred is not None:
        data["preferred_log_ratio"] = said.preferred
    where = f"Step {said.step}" if said.step else "Before the first step"
    return Note(f"{where}: validation loss={said.loss:.4f}", type="metrics", data=data)


def checkpoint(said: report.Checkpoint) -> Fields:
    """OpenAI's names of a checkpoint's metrics."""
    metrics = {
        "step": said.step,
        "train_loss": said.loss,
        "train_mean_token_accuracy": said.accuracy,
        "valid_loss": said.valid_loss,
        "full_valid_loss": said.valid_loss,
        "valid_mean_token_accuracy": said.valid_accuracy,
        "full_valid_mean_token_accuracy": said.valid_accuracy,
    }
    return {name: value for name, value in metrics.items() if value is not None}


HEAD = b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n"
"""Of OpenAI's result file."""


def table(metrics: Sequence[Metric]) -> bytes:
    """One line a step, CSV; what was not measured in a step is empty."""
    lines = []
    for row in metrics:
        values = (row.train_loss, row.train_accuracy, row.valid_loss, row.valid_accuracy)
        cells = ("" if value is None else str(value) for value in values)
        lines.append(",".join((str(row.step), *cells)) + "\n")
    return "".join(lines).encode()
