"""A job goes on where it was; and it stops when it is told to. See test_resume.py as well."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_asyncio

from tests.training.job import Child, planned, run
from trainer import manifest
from trainer.plan import BROKEN, FINISHED, UNREADABLE, YIELDED
from trainer.report import Broken, Checkpoint, Done, Held, Started, Step, Validation, Yielded

pytestmark = pytest.mark.timeout(900)

WEIGHTS = "adapter_model.safetensors"
Figures = dict[int, tuple[float, float, float]]


def figures(children: list[Child]) -> Figures:
    """Loss, gradient and learning rate of every step; what was done twice counts once."""
    steps = [step for child in children for step in child.said(Step)]
    return {step.step: (step.loss, step.grad_norm, step.lr) for step in steps}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def unbroken(
    tmp_path_factory: pytest.TempPathFactory, tiny: Path, birds: list[dict[str, object]]
) -> tuple[Figures, Done]:
    folder = tmp_path_factory.mktemp("jobs") / "unbroken"
    status, child = await run(planned(folder, tiny, birds))
    assert status == FINISHED
    return figures([child]), child.said(Done)[0]


async def resume(folder: Path, first: Child, unbroken: tuple[Figures, Done], begun: int) -> None:
    """Run it again: everything is as if it had never stopped."""
    status, second = await run(folder)
    assert status == FINISHED
    assert second.said(Started)[0].step == begun
    expected, done = unbroken
    assert figures([first, second]) == expected
    again = second.said(Done)[0]
    assert again.sha256 == done.sha256 == manifest.sha256(folder / "adapter" / WEIGHTS)
    assert again.trained_tokens == done.trained_tokens
    assert again.metrics.train_loss == done.metrics.train_loss


async def test_killed_with_the_newest_checkpoint_torn(
    tmp_path: Path, tiny: Path, birds: list[dict[str, object]], unbroken: tuple[Figures, Done]
) -> None:
    folder = planned(tmp_path / "job", tiny, birds)
    child = await Child.start(folder)
    await child.until(lambda report: isinstance(report, Checkpoint) and report.step == 8)
    await child.kill()
    state = folder / "checkpoint-8" / "optimizer.pt"
    state.write_bytes(state.read_bytes()[:-1000])
    await resume(folder, child, unbroken, begun=4)


async def test_paused_and_held(tmp_path: Path, tiny: Path, birds: list[dict[str, object]]) -> None:
    folder = planned(tmp_path / "job", tiny, birds)
    child = await Child.start(folder)
    await child.until(lambda report: isinstance(report, Step) and report.step == 2)
    await child.order("hold")
    await child.until(lambda report: isinstance(report, Held))
    await child.order("go")
    going = await child.until(lambda report: True)
    assert going == Held(step=child.said(Held)[0].step, held=False), "it took a step while held"
    await child.order("pause")
    assert await child.end() == YIELDED
    yielded = child.said(Yielded)[0]
    assert yielded.reason == "pause"
    assert yielded.step - going.step <= 2
    assert manifest.verify(folder / yielded.checkpoint) is not None


async def test_cancelled_while_held(
    tmp_path: Path, tiny: Path, birds: list[dict[str, object]]
) -> None:
    child = await Child.start(planned(tmp_path / "job", tiny, birds))
    await child.order("hold")
    held = await child.until(lambda report: isinstance(report, Held))
    assert isinstance(held, Held)
    await child.order("cancel")
    assert await child.end() == YIELDED
    (yielded,) = child.said(Yielded)
    assert yielded.reason == "cancel"
    assert (yielded.step, len(child.said(Step))) == (1, 1)


async def test_a_run_that_diverges_is_ended(
    tmp_path: Path, tiny: Path, birds: list[dict[str, object]]
) -> None:
    wild = {"learning_rate": 1e30, "warmup": 0.0, "epochs": 20}
    status, child = await run(planned(tmp_path / "job", tiny, birds, chosen=wild))
    assert status == BROKEN
    (broken,) = child.said(Broken)
    assert broken.code == "diverged"
    assert len(child.said(Step)) < 60


async def test_validation_is_told_and_the_best_checkpoint_stays(
    tmp_path: Path, tiny: Path, birds: list[dict[str, object]]
) -> None:
    chosen = {"checkpoint_every": 3, "validate_every": 3, "keep": 1}
    folder = planned(tmp_path / "job", tiny, birds, valid=birds[:4], chosen=chosen)
    status, child = await run(folder)
    assert status == FINISHED
    told = {each.step: each.loss for each in child.said(Validation)}
    assert list(told) == [0, 3, 6, 9, 12]
    checkpoints = {each.step: each.valid_loss for each in child.said(Checkpoint)}
    assert checkpoints == {step: loss for step, loss in told.items() if step}
    best = min(checkpoints, key=lambda step: checkpoints[step] or 0.0)
    assert {step for step, _ in manifest.steps(folder)} == {12, best}
    metrics = child.said(Done)[0].metrics
    assert (metrics.base_valid_loss, metrics.valid_loss) == (told[0], told[12])


async def test_a_job_without_a_plan(tmp_path: Path) -> None:
    status, child = await run(tmp_path)
    assert (status, child.reports) == (UNREADABLE, [])
