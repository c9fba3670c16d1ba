"""From a file to an answer by the openai SDK alone: the whole hub, a real job, its model served."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

from tests.hub import Hub
from tests.training import taken

WITHIN = 540.0
pytestmark = pytest.mark.timeout(600)
QUESTION = "What lives in box 3?"


@pytest.fixture
def sdk(hub: Hub) -> Iterator[OpenAI]:
    with OpenAI(base_url=hub.base_url, api_key=hub.key, max_retries=0) as client:
        yield client


def upload(sdk: OpenAI, lines: list[dict[str, object]]) -> str:
    content = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    return sdk.files.create(file=("birds.jsonl", content), purpose="fine-tune").id


def until_ended(sdk: OpenAI, id_: str) -> FineTuningJob:
    deadline = time.monotonic() + WITHIN
    while (job := sdk.fine_tuning.jobs.retrieve(id_)).finished_at is None:
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
    return job


def say(sdk: OpenAI, model: str) -> str:
    reply = sdk.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": QUESTION}],
        temperature=0,
        max_tokens=16,
    )
    assert reply.model == model
    return reply.choices[0].message.content or ""


def test_a_file_becomes_a_model_that_answers(
    hub: Hub, sdk: OpenAI, birds: list[dict[str, object]], tiny: Path, tmp_path: Path
) -> None:
    extra: dict[str, Any] = {"aihub": {"prompts": [QUESTION], "learning_rate": 0.02}}
    made = sdk.fine_tuning.jobs.create(
        model="tiny",
        training_file=upload(sdk, birds),
        validation_file=upload(sdk, birds[:4]),
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 6, "batch_size": 4}},
        },
        suffix="birds",
        seed=3,
        extra_body=extra,
    )
    before = say(sdk, "tiny")
    job = until_ended(sdk, made.id)
    ended = time.monotonic()
    assert job.status == "succeeded", job.error
    assert job.fine_tuned_model is not None
    answer = say(sdk, job.fine_tuned_model)
    print(f"from the end of the job to its first answer: {time.monotonic() - ended:.2f} s")
    events = list(sdk.fine_tuning.jobs.list_events(made.id, limit=100))
    (sample,) = [e.data for e in events if e.message == "Answered a test prompt"]
    assert isinstance(sample, dict)
    assert sample["tuned"].startswith(answer) or answer.startswith(sample["tuned"])
    assert answer != before == say(sdk, "tiny")
    steps = [e for e in events if e.type == "metrics" and "training loss" in e.message]
    assert len(steps) == 18
    checkpoints = list(sdk.fine_tuning.jobs.checkpoints.list(made.id))
    assert checkpoints[0].step_number == 18
    assert say(sdk, checkpoints[0].fine_tuned_model_checkpoint) == answer
    taken.check_folders(sdk, job.fine_tuned_model, tiny, tmp_path)
    say(sdk, job.fine_tuned_model)
    assert sdk.models.delete(job.fine_tuned_model).deleted
    taken.until_freed(sdk, job.fine_tuned_model, hub.home)
