"""A real job in a whole hub, and everything around it killed: it ends as the unbroken one."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import psycopg
import pytest
from openai import APIStatusError, OpenAI

from tests.hub import Hub, command_line, descendants
from tests.training.job import asked
from trainer import manifest
from trainer.naming import short

pytestmark = pytest.mark.timeout(900)
WITHIN = 600.0
EPOCHS, BATCH, STEPS = 5, 2, 30
CHILD, TRAINER, REDIS, POSTGRES = "bootstrap.py train", "trainer.main", "valkey-server", "postgres"
CURVE = ("train_loss", "learning_rate", "grad_norm", "tokens", "valid_loss")
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def lines() -> list[dict[str, object]]:
    return [asked(f"Tell of box {each}.", f"Box {each} holds eggs. ") for each in range(12)]


class Left(NamedTuple):
    """What is left of a job that succeeded; the curve as its events tell it, in their order."""

    curve: list[tuple[object, ...]]
    table: bytes
    sha256: str
    tokens: int | None
    train_loss: object


class Job:
    def __init__(self, hub: Hub, lines: list[dict[str, object]], epochs: int, batch: int) -> None:
        self.hub = hub
        self.sdk = OpenAI(base_url=hub.base_url, api_key=hub.key, max_retries=0)
        chosen = {"n_epochs": epochs, "batch_size": batch}
        self.id = self.sdk.fine_tuning.jobs.create(
            model="tiny",
            training_file=self.upload(lines),
            validation_file=self.upload(lines[:4]),
            method={"type": "supervised", "supervised": {"hyperparameters": chosen}},
            seed=3,
        ).id
        self.folder = hub.home / "training" / self.id

    def upload(self, lines: list[dict[str, object]]) -> str:
        content = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
        return self.sdk.files.create(file=("a.jsonl", content), purpose="fine-tune").id

    def until(self, reached: Callable[[Any], bool]) -> Any:
        """The job when it is so; while the database is away there is no answer."""
        deadline = time.monotonic() + WITHIN
        while True:
            try:
                job: Any = self.sdk.fine_tuning.jobs.retrieve(self.id)
            except APIStatusError as error:
                assert error.status_code == 503, error
            else:
                if reached(job):
                    return job
                assert job.status != "failed", job.error
            assert time.monotonic() < deadline, [event.message for event in self.events()][-20:]
            time.sleep(0.05)

    def step(self, number: int) -> None:
        self.until(lambda job: job.aihub["step"] >= number)

    def events(self) -> list[Any]:
        return list(self.sdk.fine_tuning.jobs.list_events(self.id, limit=1000))[::-1]

    def left(self) -> Left:
        job = self.until(lambda job: job.finished_at is not None)
        assert job.status == "succeeded", job.error
        told = [event.data for event in self.events() if event.type == "metrics"]
        folder = self.hub.home / "tuned" / short(self.id)
        digest = manifest.sha256(folder / WEIGHTS)
        assert digest == job.aihub["metrics"]["sha256"]
        return Left(
            curve=[(row["step"], *(row.get(name) for name in CURVE)) for row in told],
            table=self.sdk.files.content(job.result_files[0]).content,
            sha256=digest,
            tokens=job.trained_tokens,
            train_loss=job.aihub["metrics"]["train_loss"],
        )

    def begun(self) -> list[str]:
        """The checkpoint that each child began at, in their order."""
        said = [event.data for event in self.events() if "trainable" in event.data]
        return [data.get("checkpoint", "") for data in said]


def processes(hub: Hub, words: str) -> list[int]:
    return [pid for pid in descendants(hub.supervisor) if words in command_line(pid)]


def kill(hub: Hub, words: str) -> None:
    os.kill(processes(hub, words)[0], signal.SIGKILL)


def kill_unwritten(hub: Hub, job: Job) -> None:
    """The trainer, when its child has a checkpoint of steps that it could not write."""
    with psycopg.connect(f"postgresql://aihub@/aihub?host={hub.home / 'run'}") as connection:
        held = "SELECT step FROM fine_tuning_job WHERE id = %s FOR UPDATE"
        (told,) = connection.execute(held, [job.id]).fetchone() or (0,)
        deadline = time.monotonic() + WITHIN
        while (found := manifest.newest(job.folder)) is None or found[1].step <= told:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        kill(hub, TRAINER)


def pause(hub: Hub, job: Job) -> None:
    assert job.sdk.fine_tuning.jobs.pause(job.id).status == "paused"
    job.until(lambda _: not processes(hub, CHILD))
    assert job.sdk.fine_tuning.jobs.resume(job.id).status == "queued"


def test_whatever_happens_to_a_job_its_model_is_the_same(
    hub: Hub, lines: list[dict[str, object]]
) -> None:
    unbroken = Job(hub, lines, EPOCHS, BATCH)
    expected = unbroken.left()
    steps = [row[0] for row in expected.curve if row[1] is not None]
    assert steps == list(range(1, STEPS + 1))
    assert unbroken.begun() == [""]
    job = Job(hub, lines, EPOCHS, BATCH)
    job.step(5)
    kill(hub, CHILD)
    job.step(10)
    kill_unwritten(hub, job)
    job.step(15)
    pause(hub, job)
    job.step(20)
    kill(hub, REDIS)
    job.step(25)
    kill(hub, POSTGRES)
    assert job.left() == expected
    first, *later = job.begun()
    assert (first, len(later), "" in later) == ("", 3, False), later


def test_cancelled_within_two_steps(hub: Hub, lines: list[dict[str, object]]) -> None:
    job = Job(hub, lines, 20, len(lines))
    job.step(1)
    cancelled: Any = job.sdk.fine_tuning.jobs.cancel(job.id)
    assert cancelled.status == "cancelled"
    job.until(lambda _: not processes(hub, CHILD))
    said: list[str] = []
    while not (ends := [text for text in said if text.startswith("Stopped behind step ")]):
        said = [event.message for event in job.events()]
    assert int(ends[0].rpartition(" ")[2]) <= cancelled.aihub["step"] + 2
