"""Fine-tuning jobs over the wire: OpenAI's client, one gateway, no trainer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import psycopg
import pytest
from openai import OpenAI
from psycopg.types.json import Jsonb

from shared.settings import Settings
from tests.contract import schema
from tests.contract.client import Client, Reply
from tests.gateway import KEY, running_gateway

TOML = """
train_python = "/usr/bin/python3"
train_jobs = 6
[models.tiny]
engine = "llamacpp"
file = "tiny.gguf"
train_weights = "tiny"
[models.fixed]
engine = "ollama"
[models.card]
engine = "vllm"
weights = "tiny"
python = "/usr/bin/python3"
max_lora_rank = 8
[models.bare]
engine = "vllm"
weights = "tiny"
python = "/usr/bin/python3"
max_lora_rank = 0
"""
LINE = json.dumps({"messages": [{"role": "user", "content": "a"}]}) + "\n"


class Place:
    def __init__(self, base_url: str, database_url: str) -> None:
        self.base_url = base_url
        self.client = Client(base_url, KEY)
        self.sdk = OpenAI(base_url=base_url, api_key=KEY, max_retries=0)
        self._database_url = database_url

    def post(self, path: str, **fields: Any) -> Reply:
        return self.client.send("POST", path, json.dumps(fields).encode())

    def create(self, **fields: Any) -> dict[str, Any]:
        fields = {"name": "mine", "base_model": "tiny", "dataset_path": "a.jsonl"} | fields
        reply = self.post("//api/v1/training/jobs", **fields)
        assert reply.status == 200, reply.body
        made: dict[str, Any] = reply.json
        return made

    def execute(self, query: str, **values: Any) -> None:
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            connection.execute(query.encode(), values)

    def publish(self, name: str, job: str) -> None:
        self.execute(
            "INSERT INTO tuned_model (name, project_id, base, job_id, path, bytes)"
            " VALUES (%(name)s, 'proj_default', 'tiny', %(job)s, 'x', 1)",
            name=name,
            job=job,
        )


@pytest.fixture
def place(database_url: str, valkey_url: str, home: Path) -> Iterator[Place]:
    (home / "datasets").mkdir()
    (home / "datasets" / "a.jsonl").write_text(LINE * 10)
    (home / "b.jsonl").write_text(LINE)
    settings = Settings(home=str(home), database_url=database_url, redis_url=valkey_url)
    with running_gateway(settings, TOML) as base_url:
        place = Place(base_url, database_url)
        try:
            yield place
        finally:
            place.sdk.close()


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


def refused(reply: Reply, status: int, param: str) -> None:
    assert (reply.status, reply.error["param"]) == (status, param), reply.body


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


def test_models_and_aliases_come_and_go_without_a_restart(place: Place) -> None:
    made = place.create()
    names = [f"ft:tiny:default:v{number}:{number}" for number in (1, 2)]
    for name in names:
        place.publish(name, made["id"])

    def put(**fields: Any) -> Reply:
        return place.client.send("PUT", "//api/v1/model_aliases/mine", json.dumps(fields).encode())

    assert put(target=names[0]).json["previous"] is None
    found = place.sdk.models.retrieve(names[0])
    assert found.parent == "tiny"  # type: ignore[attr-defined]
    assert place.sdk.models.retrieve("mine").id == "mine"
    refused(put(target="ft:none"), 400, "target")
    refused(put(target=names[0], canary=names[1]), 400, "share")
    assert put(target=names[0], canary=names[1], share=0.2).json["share"] == 0.2
    path = "//api/v1/model_aliases/mine"
    promoted = place.client.send("POST", f"{path}/promote").json
    assert (promoted["target"], promoted["previous"]) == (names[1], names[0])
    with pytest.raises(openai.BadRequestError):
        place.sdk.models.delete(names[1])
    back = place.client.send("POST", f"{path}/rollback").json
    assert (back["target"], back["previous"]) == (names[0], names[1])
    deleted = place.client.send("DELETE", f"/models/{names[1]}").json
    schema.check("DeleteModelResponse", deleted)
    assert place.client.send("POST", f"{path}/rollback").status == 400
    assert place.client.send("DELETE", path).status == 200
    listed = [model.id for model in place.sdk.models.list()]
    assert listed == ["tiny", "fixed", "card", "bare", names[0]]
    refused(place.client.send("DELETE", "/models/tiny"), 403, "model")


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


EXPORTS = "//api/v1/fine_tuning/exports"
NAME = "ft:tiny:default::1"


def test_exports_are_asked_for_listed_and_deleted(place: Place) -> None:
    place.publish(NAME, place.create()["id"])
    made = [
        place.post(EXPORTS, model=NAME, format=format_).json
        for format_ in ("adapter", "safetensors", "gguf")
    ]
    assert [each["quantisation"] for each in made] == [None, None, "q8_0"]
    assert {each["status"] for each in made} == {"queued"}
    assert place.client.send("GET", f"{EXPORTS}/{made[0]['id']}").json == made[0]
    listed = place.client.send("GET", f"{EXPORTS}?limit=2").json
    assert (listed["data"], listed["has_more"]) == (made[:0:-1], True)
    rest = place.client.send("GET", f"{EXPORTS}?after={listed['last_id']}").json
    assert (rest["data"], rest["has_more"]) == ([made[0]], False)
    gone = place.client.send("DELETE", f"{EXPORTS}/{made[0]['id']}").json
    assert gone == {
        "id": made[0]["id"],
        "object": "fine_tuning.export.deleted",
        "deleted": True,
    }
    assert place.client.send("GET", f"{EXPORTS}/{made[0]['id']}").status == 404
    for _ in range(18):
        assert place.post(EXPORTS, model=NAME, format="adapter").status == 200
    refused(place.post(EXPORTS, model=NAME, format="adapter"), 409, "model")


def test_exports_that_are_refused_name_the_field(place: Place) -> None:
    job = place.create()["id"]
    place.publish(NAME, job)

    def ask(**fields: Any) -> Reply:
        return place.post(EXPORTS, **{"model": NAME, "format": "gguf"} | fields)

    for small in ("q4_0", "q4_k_m", "nf4"):
        reply = ask(quantisation=small)
        refused(reply, 400, "quantisation")
        assert "never merged into 4 bits" in reply.error["message"]
    refused(ask(format="q4_0"), 400, "format")
    refused(ask(format="safetensors", quantisation="f16"), 400, "quantisation")
    refused(ask(format=7), 400, "format")
    refused(ask(model="tiny"), 404, "model")
    refused(ask(model="a\u0000b"), 400, "model")
    refused(ask(target="/etc"), 400, "target")
    refused(place.post(EXPORTS, model=NAME), 400, "format")
    refused(place.client.send("GET", f"{EXPORTS}?after=none"), 400, "after")
    refused(place.client.send("GET", f"{EXPORTS}?limit=0"), 400, "limit")
    assert place.client.send("GET", f"{EXPORTS}/none").status == 404
    assert place.client.send("DELETE", f"{EXPORTS}/none").status == 404
    plan = Jsonb({"plan": {"base": "/b", "base_gguf": None, "hyperparameters": {}}})
    place.execute("UPDATE fine_tuning_job SET plan = %(plan)s", plan=plan)
    refused(ask(), 400, "format")
    project = place.post("//api/v1/admin/projects", name="other").json["id"]
    fields = {"name": "k", "project": project, "scopes": ["training"]}
    key = place.post("//api/v1/admin/keys", **fields).json["value"]
    body = json.dumps({"model": NAME, "format": "adapter"}).encode()
    refused(Client(place.base_url, key).send("POST", EXPORTS, body), 404, "model")
    fields = {"name": "n", "scopes": ["training"], "models": ["tiny"]}
    narrow = place.post("//api/v1/admin/keys", **fields).json["value"]
    refused(Client(place.base_url, narrow).send("POST", EXPORTS, body), 403, "model")


SHARED = f"/fine_tuning/checkpoints/{NAME}/permissions"


def test_a_model_is_shared_with_a_project_and_no_longer(place: Place) -> None:
    place.publish(NAME, place.create()["id"])
    projects = [
        place.post("//api/v1/admin/projects", name=name).json["id"] for name in ("one", "two")
    ]
    fields = {"name": "k", "project": projects[0], "scopes": ["inference", "training"]}
    key = place.post("//api/v1/admin/keys", **fields).json["value"]
    other = Client(place.base_url, key)
    permissions = place.sdk.fine_tuning.checkpoints.permissions
    body = json.dumps({"model": NAME, "messages": [{"role": "user", "content": "a"}]}).encode()
    assert other.send("GET", f"/models/{NAME}").status == 404
    assert other.send("POST", "/chat/completions", body).status == 404

    made = permissions.create(NAME, project_ids=projects)
    assert sorted(one.project_id for one in made) == sorted(projects)
    again = place.post(SHARED, project_ids=projects).json
    assert {one["id"] for one in again["data"]} == {one.id for one in made}
    assert other.send("GET", f"/models/{NAME}").json["id"] == NAME
    assert NAME in [each["id"] for each in other.send("GET", "/models").json["data"]]
    assert other.send("POST", "/chat/completions", body).error["code"] == "model_unavailable"
    assert other.send("DELETE", f"/models/{NAME}").status == 404
    refused(
        other.send("POST", EXPORTS, b'{"model": "%s", "format": "adapter"}' % NAME.encode()),
        404,
        "model",
    )

    listed = permissions.list(NAME, limit=1, order="ascending")
    assert len(list(listed)) == 2
    (mine,) = permissions.list(NAME, project_id=projects[0])
    (gone,) = [one for one in made if one.project_id == projects[0]]
    assert mine.id == gone.id
    deleted = permissions.delete(gone.id, fine_tuned_model_checkpoint=NAME)
    assert (deleted.id, deleted.deleted) == (gone.id, True)
    assert other.send("GET", f"/models/{NAME}").status == 404
    assert other.send("POST", "/chat/completions", body).status == 404
    with pytest.raises(openai.NotFoundError):
        permissions.delete(gone.id, fine_tuned_model_checkpoint=NAME)


def test_permissions_that_are_refused_name_the_field(place: Place) -> None:
    place.publish(NAME, place.create()["id"])
    path = "//api/v1/fine_tuning/checkpoints/ft:none/permissions"
    refused(place.post(path, project_ids=["proj_default"]), 404, "fine_tuned_model_checkpoint")
    refused(place.post(SHARED, project_ids=["proj_default", "none"]), 400, "project_ids[1]")
    assert place.client.send("GET", SHARED).json["data"] == [], "all or none"
    refused(place.post(SHARED, project_ids=[]), 400, "project_ids")
    refused(place.post(SHARED), 400, "project_ids")
    refused(place.client.send("GET", f"{SHARED}?order=asc"), 400, "order")
    refused(place.client.send("GET", f"{SHARED}?after=none"), 400, "after")
    assert place.client.send("GET", f"{SHARED}/cp_none").status == 405
    assert place.client.send("GET", "/fine_tuning/checkpoints/x").status == 404
    fields = {"name": "t", "scopes": ["inference", "training"]}
    plain = place.post("//api/v1/admin/keys", **fields).json["value"]
    body = b'{"project_ids": ["proj_default"]}'
    assert Client(place.base_url, plain).send("POST", SHARED, body).status == 403
