"""Plans and reports as they travel between a trainer and its child."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.training.job import CHOSEN
from trainer.plan import Plan
from trainer.report import Broken, Done, Metrics, Report, Step, Yielded, decode

PLAN = Plan(
    job="ftjob-1",
    base="/models/base",
    method="supervised",
    train="/files/train.jsonl",
    prompts=("Who are you?",),
    hyperparameters=CHOSEN,
    device="cpu",
    threads=1,
)


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    PLAN.write(tmp_path)
    assert Plan.read(tmp_path) == PLAN
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_a_plan_with_something_unknown_is_refused(tmp_path: Path) -> None:
    told = msgspec.json.decode(msgspec.json.encode(PLAN))
    (tmp_path / "plan.json").write_bytes(msgspec.json.encode(told | {"rounds": 3}))
    with pytest.raises(msgspec.ValidationError, match="rounds"):
        Plan.read(tmp_path)


@pytest.mark.parametrize(
    "report",
    [
        Step(
            step=1,
            of=12,
            loss=2.5,
            lr=1e-4,
            grad_norm=0.5,
            tokens=290,
            tokens_per_second=58.0,
            eta=55.0,
            memory=1 << 30,
        ),
        Yielded(step=4, reason="cancel", checkpoint="checkpoint-4"),
        Done(
            adapter="adapter",
            sha256="00",
            steps=12,
            trained_tokens=3480,
            metrics=Metrics(train_loss=0.1),
        ),
        Broken(code="diverged", message="The loss is not a number."),
    ],
    ids=lambda report: type(report).__name__,
)
def test_a_report_is_one_line_and_comes_back_whole(report: Report) -> None:
    line = msgspec.json.encode(report)
    assert b"\n" not in line
    assert decode(line) == report


def test_what_is_no_report_is_refused() -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode(b"Loading weights: 100%")
