"""The trainer process: what a job goes through, and that nothing that dies on the way ends it.

Its children pretend to train (tests/fakes/training_child.py); everything else is real.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec
import pytest

from shared import ids
from shared.db import transaction
from shared.store import fine_tuning, training_run, tuned_model
from tests.fakes.training_child import PEAK, STEPS
from tests.trainers import Trainer, running_trainer
from trainer import naming
from trainer.correction import MARGIN
from trainer.planning import Planned
from trainer.speed import CPU_SHARE

EVERY = list(range(1, STEPS + 1))
OPEN = ("validating_files", "queued", "running")


async def test_a_job_becomes_a_model(quick: Trainer) -> None:
    id_ = await quick.create()
    job = await quick.until(id_, lambda job: job.finished_at is not None)
    name = naming.model("tiny", "default", "mine", id_)
    assert job.error is None
    assert (job.status, job.fine_tuned_model, job.trained_tokens) == ("succeeded", name, 240)
    assert job.plan is not None
    assert job.result_file is not None
    assert (await quick.content(job.result_file)).splitlines()[:2] == [
        "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy",
        "1,1.0,,,",
    ]
    assert await quick.steps(id_) == EVERY
    async with quick.pool.connection() as connection:
        models = await tuned_model.select(connection)
        checkpoints = await fine_tuning.checkpoints(connection, id_, 10)
    assert [checkpoint.step for checkpoint in checkpoints] == [STEPS, 20, 15]
    assert {model.name for model in models} == {name, *(one.model for one in checkpoints)}
    for model in models:
        weights = quick.home / model.path / "adapter_model.safetensors"
        assert weights.read_bytes() == f"weights of {id_}".encode()
    messages = [event.message for event in await quick.events(id_)]
    assert messages[-2:] == [
        f"New fine-tuned model created: {name}",
        "The job has successfully completed",
    ]


async def test_what_a_job_took_is_what_the_next_one_is_estimated_by(quick: Trainer) -> None:
    plans = []
    for _ in range(2):
        id_ = await quick.create()
        job = await quick.until(id_, lambda job: job.finished_at is not None)
        assert job.status == "succeeded"
        plans.append(msgspec.convert(job.plan, Planned))
    before, after = plans
    assert (before.sizes[0].basis, before.sizes[0].bytes) == ("estimated", before.estimate.total)
    assert before.time is not None
    assert (before.time.basis, before.time.tokens_per_second) == (
        "estimated",
        CPU_SHARE * 1e9 / before.work,
    )
    assert (after.sizes[0].basis, after.sizes[0].bytes) == ("measured", int(PEAK * (1 + MARGIN)))
    assert after.sizes[0].estimated == before.estimate.total
    assert after.time is not None
    assert (after.time.basis, after.time.tokens_per_second) == ("measured", 10 * STEPS / 2)
    assert after.time.seconds == 3 + 300 * after.plan.hyperparameters.epochs / (10 * STEPS / 2)


async def test_out_of_memory_a_job_goes_on_with_a_smaller_batch(
    home: Path, database_url: str, valkey_url: str
) -> None:
    async with running_trainer(home, database_url, valkey_url, 0.01, "starves") as trainer:
        id_ = await trainer.create(batch=4)
        job = await trainer.until(id_, lambda job: job.finished_at is not None)
        told = [event.data["batch"] for event in await trainer.events(id_) if "batch" in event.data]
        plan = msgspec.convert(job.plan, Planned)
        assert plan.setup is not None
        async with trainer.pool.connection() as connection:
            runs = await training_run.select(connection, plan.setup.device)
    assert (job.status, told) == ("succeeded", [2])
    assert {(run.batch, run.short, run.peak) for run in runs} == {
        (4, True, plan.sizes[0].bytes),
        (2, False, PEAK),
    }


async def test_a_deleted_model_frees_its_bytes(quick: Trainer) -> None:
    id_ = await quick.create()
    job = await quick.until(id_, lambda job: job.finished_at is not None)
    name = str(job.fine_tuned_model)
    async with quick.pool.connection() as connection:
        (path,) = [m.path for m in await tuned_model.select(connection) if m.name == name]
        assert await tuned_model.delete(connection, name, "proj_default")
    folder = quick.home / path
    await quick.until(id_, lambda _: not folder.exists())
    await quick.until(id_, lambda _: not (quick.home / "training" / id_).exists())


async def test_a_model_is_offered_once_for_each_that_serves_it(quick: Trainer) -> None:
    id_ = await quick.create(served_by=("other", "third"))
    job = await quick.until(id_, lambda job: job.finished_at is not None)
    async with quick.pool.connection() as connection:
        models = {m.base: m for m in await tuned_model.select(connection) if ":ckpt" not in m.name}
    assert {base: model.name for base, model in models.items()} == {
        base: naming.model(base, "default", "mine", id_) for base in ("tiny", "other", "third")
    }
    assert job.fine_tuned_model == models["tiny"].name
    (path,) = {model.path for model in models.values()}
    for base in ("tiny", "third"):
        async with transaction(quick.pool) as connection:
            assert await tuned_model.delete(connection, models[base].name, "proj_default")
    async with quick.pool.connection() as connection:
        assert path not in [gone.path for gone in await tuned_model.deleted(connection)]
    assert (quick.home / path).exists()
    async with transaction(quick.pool) as connection:
        assert await tuned_model.delete(connection, models["other"].name, "proj_default")
    await quick.until(id_, lambda _: not (quick.home / path).exists())


async def test_a_job_that_breaks_unforeseen_gives_way(quick: Trainer) -> None:
    id_ = ids.new("ftjob-")
    (quick.home / "training").mkdir(exist_ok=True)
    (quick.home / "training" / id_).write_text("in the way")
    await quick.create(id_=id_)
    other = await quick.create()
    broken = await quick.until(id_, lambda job: job.finished_at is not None)
    assert broken.status == "failed"
    assert broken.error is not None
    assert broken.error.message == "The job broke: FileExistsError."
    job = await quick.until(other, lambda job: job.finished_at is not None)
    assert job.status == "succeeded"


async def test_a_child_that_is_killed_is_followed_by_another(slow: Trainer) -> None:
    id_ = await slow.create()
    await slow.until(id_, lambda job: job.step >= 7)
    os.kill(slow.children()[0], signal.SIGKILL)
    job = await slow.until(id_, lambda job: job.finished_at is not None)
    assert job.status == "succeeded"
    assert await slow.steps(id_) == EVERY
    begun = [e.data for e in await slow.events(id_) if e.data.get("checkpoint")]
    assert [data["checkpoint"] for data in begun] == ["checkpoint-5"]


async def test_a_trainer_that_is_killed_takes_its_child_along_and_is_followed(
    slow: Trainer,
) -> None:
    id_ = await slow.create()
    await slow.until(id_, lambda job: job.step >= 7)
    (child,) = slow.children()
    slow.server.child.signal(signal.SIGKILL)
    await slow.until_gone(child)
    slow.restart()
    job = await slow.until(id_, lambda job: job.finished_at is not None)
    assert job.status == "succeeded"
    assert await slow.steps(id_) == EVERY


async def test_a_trainer_that_stops_leaves_a_checkpoint(slow: Trainer) -> None:
    id_ = await slow.create()
    await slow.until(id_, lambda job: job.step >= 7)
    slow.server.child.signal(signal.SIGTERM)
    slow.restart()
    job = await slow.until(id_, lambda job: job.finished_at is not None)
    assert job.status == "succeeded"
    begun = [e.data for e in await slow.events(id_) if e.data.get("checkpoint")]
    assert begun[0]["step"] not in (None, 5)
    assert await slow.steps(id_) == EVERY


async def test_cancelled_within_two_steps(home: Path, database_url: str, valkey_url: str) -> None:
    async with running_trainer(home, database_url, valkey_url, seconds=1.0) as trainer:
        id_ = await trainer.create()
        await trainer.until(id_, lambda job: job.step >= 1)
        (child,) = trainer.children()
        assert await trainer.move(id_, "cancelled", *OPEN) == "cancelled"
        told = (await trainer.job(id_)).step
        await trainer.until_gone(child)

        def last(messages: list[str]) -> int | None:
            ends = [text for text in messages if text.startswith("Stopped behind step ")]
            return int(ends[0].rpartition(" ")[2]) if ends else None

        while (ended := last([e.message for e in await trainer.events(id_)])) is None:
            await trainer.until(id_, lambda job: job.status == "cancelled")
        assert ended <= told + 2
        assert max(step for step in await trainer.steps(id_) if isinstance(step, int)) == told


async def test_paused_and_resumed(slow: Trainer) -> None:
    id_ = await slow.create()
    await slow.until(id_, lambda job: job.step >= 7)
    (child,) = slow.children()
    assert await slow.move(id_, "paused", *OPEN) == "paused"
    await slow.until_gone(child)
    assert (await slow.job(id_)).status == "paused"
    other = await slow.create()
    await slow.until(other, lambda job: job.status == "running")
    assert await slow.move(id_, "queued", "paused") == "queued"
    await slow.until(other, lambda job: job.finished_at is not None)
    job = await slow.until(id_, lambda job: job.finished_at is not None)
    assert job.status == "succeeded"
    assert await slow.steps(id_) == EVERY


async def test_who_lost_its_claim_writes_no_more(slow: Trainer) -> None:
    id_ = await slow.create()
    await slow.until(id_, lambda job: job.step >= 3)
    (child,) = slow.children()
    async with slow.pool.connection() as connection:
        await connection.execute(
            b"UPDATE fine_tuning_job SET fence = fence + 1, owner = 'another',"
            b" lease_until = now() + interval '1 hour'"
        )
        steps = await slow.steps(id_)
    await slow.until_gone(child)
    assert len(await slow.steps(id_)) <= len(steps) + 1
    assert (await slow.job(id_)).status == "running"


async def test_cancelled_while_its_files_are_read(
    home: Path, database_url: str, valkey_url: str
) -> None:
    async with running_trainer(home, database_url, valkey_url, 0.01, "pores") as trainer:
        id_ = await trainer.create()
        await trainer.until(id_, lambda _: bool(trainer.children()))
        (child,) = trainer.children()
        assert await trainer.move(id_, "cancelled", *OPEN) == "cancelled"
        await trainer.until_gone(child)
        await trainer.until(id_, lambda _: not (trainer.home / "training" / id_).exists())


async def test_a_file_with_errors_fails_the_job_before_it_starts(quick: Trainer) -> None:
    (quick.home / "datasets" / "bad.jsonl").write_text('{"messages": []}\n' * 9 + "{")
    job = await quick.until(
        await quick.create(file="bad.jsonl"), lambda job: job.finished_at is not None
    )
    assert (job.status, job.plan) == ("failed", None)
    assert job.error is not None
    assert (job.error.code, job.error.param) == ("invalid_training_file", "training_file")
    assert "line 10" in job.error.message


@pytest.mark.parametrize(
    ("behaviour", "code", "words"),
    [("refused", "gate_refused", "worse than its base"), ("dies", "server_error", "luck")],
)
async def test_what_fails_says_why_and_offers_nothing(
    home: Path, database_url: str, valkey_url: str, behaviour: str, code: str, words: str
) -> None:
    async with running_trainer(home, database_url, valkey_url, 0.01, behaviour) as trainer:
        id_ = await trainer.create()
        job = await trainer.until(id_, lambda job: job.finished_at is not None)
        async with trainer.pool.connection() as connection:
            models = await tuned_model.select(connection)
    assert (job.status, job.fine_tuned_model) == ("failed", None)
    assert job.error is not None
    assert job.error.code == code
    assert words in job.error.message
    assert all(":ckpt-step-" in model.name for model in models)
