"""Fine-tuning jobs over the wire: OpenAI's client, one gateway, no trainer."""

from __future__ import annotations

import json
import threading
from typing import Any

import openai
import pytest
from psycopg.types.json import Jsonb

from tests.contract import schema
from tests.contract.client import Client, Reply
from tests.integration.fine_tuning import LINE, Place, refused


def test_a_job_is_of_the_published_shape_whatever_its_state(place: Place) -> None:
    jobs = place.sdk.fine_tuning.jobs
    made = place.create()
    assert (made["base_model"], made["dataset_path"]) == ("tiny", "a.jsonl")
    assert made["training_type"] == "qlora"
    path = f"/fine_tuning/jobs/{made['id']}"
    schema.check("FineTuningJob", place.client.send("GET", path).json)
    assert jobs.retrieve(made["id"]).status == "validating_files"
    paused = jobs.pause(made["id"])
    assert paused.status == "paused"  # type: ignore[comparison-overlap]
    assert jobs.pause(made["id"]) == paused
    assert jobs.resume(made["id"]).status == "validating_files"
    with pytest.raises(openai.NotFoundError):
        jobs.retrieve("ftjob-none")
    cancelled = jobs.cancel(made["id"])
    assert (cancelled.status, cancelled.finished_at is not None) == ("cancelled", True)
    with pytest.raises(openai.ConflictError):
        jobs.resume(made["id"])
    schema.check("FineTuningJob", place.client.send("GET", path).json)
    listed = place.client.send("GET", f"{path}/events").json
    schema.check("ListFineTuningJobEventsResponse", listed)
    words = [event.message for event in jobs.list_events(made["id"], limit=1)]
    assert words == [
        "The job was cancelled.",
        "The job goes on.",
        "The job was paused.",
        f"Created fine-tuning job: {made['id']}",
    ]


def test_resolved_hyperparameters_show(place: Place) -> None:
    made = place.create()
    chosen = {"epochs": 3, "batch": 2, "accumulation": 4}
    plan = {"plan": {"hyperparameters": chosen, "base": "/secret"}, "steps": 7}
    place.execute("UPDATE fine_tuning_job SET plan = %(plan)s, status = 'queued'", plan=Jsonb(plan))
    job = place.sdk.fine_tuning.jobs.retrieve(made["id"])
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (3, 8)
    assert job.method is not None
    assert job.method.supervised is not None
    shown = place.client.send("GET", f"/fine_tuning/jobs/{made['id']}").json["aihub"]["plan"]
    assert shown == {"hyperparameters": chosen, "steps": 7}


def test_lists_have_pages_and_filters(place: Place) -> None:
    ids = [place.create()["id"] for _ in range(5)]
    place.execute(
        'UPDATE fine_tuning_job SET metadata = \'{"team": "a b"}\' WHERE id = %(id)s', id=ids[2]
    )
    jobs = place.sdk.fine_tuning.jobs
    assert [job.id for job in jobs.list(limit=2)] == ids[::-1]
    assert [job.id for job in jobs.list(metadata={"team": "a b"})] == [ids[2]]
    assert len(list(jobs.list(extra_query={"metadata": "null"}))) == 4
    listed = place.client.send("GET", "/fine_tuning/jobs?limit=2").json
    schema.check("ListPaginatedFineTuningJobsResponse", listed)
    assert listed["has_more"]
    assert place.client.send("GET", "//api/v1/training/jobs?after=nope").status == 400


def test_checkpoints(place: Place) -> None:
    made = place.create()
    for step in (2, 4):
        place.execute(
            "INSERT INTO fine_tuning_checkpoint (id, job_id, step, model, metrics)"
            " VALUES (%(id)s, %(job)s, %(step)s, 'ft:x', '{\"train_loss\": 0.5}')",
            id=f"ftckpt_{step}",
            job=made["id"],
            step=step,
        )
    path = f"/fine_tuning/jobs/{made['id']}/checkpoints"
    listed = place.client.send("GET", path).json
    schema.check("ListFineTuningJobCheckpointsResponse", listed)
    found = place.sdk.fine_tuning.jobs.checkpoints.list(made["id"], limit=1)
    assert [checkpoint.step_number for checkpoint in found] == [4, 2]


def test_events_are_streamed_until_the_end(place: Place) -> None:
    made = place.create()
    streams: list[bytes] = []

    def read() -> None:
        path = f"/fine_tuning/jobs/{made['id']}/events?stream=true"
        streams.append(place.client.send("GET", path).body)

    reading = threading.Thread(target=read)
    reading.start()
    place.sdk.fine_tuning.jobs.cancel(made["id"])
    reading.join(30)
    blocks = [each for each in streams[0].decode().split("\n\n") if each.startswith("data: ")]
    assert blocks.pop() == "data: [DONE]"
    events = [json.loads(block.removeprefix("data: ")) for block in blocks]
    for event in events:
        schema.check("FineTuningJobEvent", event)
    assert [event["message"] for event in events] == [
        f"Created fine-tuning job: {made['id']}",
        "The job was cancelled.",
    ]


def test_the_curve_is_drawn(place: Place) -> None:
    made = place.create()
    for step in (1, 2, 3):
        place.execute(
            "INSERT INTO fine_tuning_metric (job_id, step, train_loss)"
            " VALUES (%(job)s, %(step)s, %(loss)s)",
            job=made["id"],
            step=step,
            loss=1 / step,
        )
    reply = place.client.send("GET", f"/fine_tuning/jobs/{made['id']}/loss.svg")
    assert reply.headers["content-type"] == "image/svg+xml"
    assert b"<polyline" in reply.body


def test_what_is_refused_names_the_field(place: Place) -> None:
    def brief(**fields: Any) -> Reply:
        whole = {"name": "mine", "base_model": "tiny", "dataset_path": "a.jsonl"} | fields
        return place.post("//api/v1/training/jobs", **whole)

    def wire(**fields: Any) -> Reply:
        whole = {"model": "tiny", "training_file": "file-none"} | fields
        return place.post("/fine_tuning/jobs", **whole)

    refused(brief(base_model="fixed"), 400, "model")
    refused(brief(base_model="none"), 404, "model")
    refused(brief(dataset_path="../b.jsonl"), 400, "dataset_path")
    refused(brief(dataset_path="none.jsonl"), 400, "dataset_path")
    refused(brief(training_type="full"), 400, "training_type")
    refused(wire(), 400, "training_file")
    refused(wire(training_file="a.jsonl"), 400, "training_file")
    refused(wire(integrations=[{"type": "wandb"}]), 400, "integrations")
    refused(wire(method={"type": "reinforcement"}), 400, "method.type")
    refused(wire(method={"type": "dpo", "supervised": {}}), 400, "method.supervised")
    refused(wire(hyperparameters={"n_epochs": 0}), 400, "hyperparameters.n_epochs")
    refused(wire(suffix="a:b"), 400, "suffix")
    refused(wire(metadata={"k": "v" * 513}), 400, "metadata")
    refused(wire(model="bare"), 400, "model")
    refused(wire(aihub={"rank": 16}, model="card"), 400, "aihub.rank")
    refused(wire(aihub={"rank": 16, "served_by": ["card"]}), 400, "aihub.rank")
    for name, status in (("fixed", 400), ("bare", 400), ("tiny", 400), ("none", 404)):
        served = {"served_by": ["card", name]}
        refused(wire(aihub=served), status, "aihub.served_by[1]")


def test_another_project_sees_nothing_of_it(place: Place) -> None:
    made = place.create()
    place.publish("ft:tiny:default::1", made["id"])
    project = place.post("//api/v1/admin/projects", name="other").json["id"]
    fields = {"name": "k", "project": project, "scopes": ["inference", "training"]}
    key = place.post("//api/v1/admin/keys", **fields).json["value"]
    other = Client(place.base_url, key)
    assert other.send("GET", f"/fine_tuning/jobs/{made['id']}").status == 404
    assert other.send("POST", f"/fine_tuning/jobs/{made['id']}/cancel").status == 404
    assert other.send("GET", "/fine_tuning/jobs").json["data"] == []
    body = b'{"model": "ft:tiny:default::1", "messages": [{"role": "user", "content": "a"}]}'
    assert other.send("POST", "/chat/completions", body).error["code"] == "model_not_found"
    assert other.send("DELETE", "/models/ft:tiny:default::1").status == 404
    plain = place.post("//api/v1/admin/keys", name="p", project=project).json["value"]
    assert Client(place.base_url, plain).send("GET", "/fine_tuning/jobs").status == 403


def test_open_jobs_are_bounded(place: Place) -> None:
    made = [place.create()["id"] for _ in range(6)]
    fields = {"name": "mine", "base_model": "tiny", "dataset_path": "a.jsonl"}
    reply = place.post("//api/v1/training/jobs", **fields)
    assert (reply.status, reply.error["code"]) == (429, "rate_limit_exceeded")
    assert "6 fine-tuning jobs that have not ended" in reply.error["message"]
    place.sdk.fine_tuning.jobs.pause(made[0])
    assert place.post("//api/v1/training/jobs", **fields).status == 429
    place.sdk.fine_tuning.jobs.cancel(made[1])
    place.create()


def test_copies_of_open_jobs_count_in_the_quota(place: Place) -> None:
    content = (LINE * 20).encode()
    file = place.sdk.files.create(file=("a.jsonl", content), purpose="fine-tune").id
    place.execute("UPDATE project SET file_bytes = %(bytes)s", bytes=2 * len(content) + 10)
    jobs = place.sdk.fine_tuning.jobs
    made = jobs.create(model="tiny", training_file=file)
    refused(place.post("/fine_tuning/jobs", model="tiny", training_file=file), 400, "training_file")
    with pytest.raises(openai.BadRequestError, match=f"and has {2 * len(content)} bytes"):
        place.sdk.files.create(file=("b.jsonl", content), purpose="fine-tune")
    jobs.pause(made.id)
    brief = {"name": "mine", "base_model": "tiny", "dataset_path": "a.jsonl"}
    reply = place.post("//api/v1/training/jobs", **brief)
    refused(reply, 400, "dataset_path")
    assert reply.error["code"] == "storage_quota_exceeded"
    jobs.cancel(made.id)
    jobs.create(model="tiny", training_file=file)
