"""Tuned models over the wire: their aliases, exports, and with whom they are shared."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from psycopg.types.json import Jsonb

from tests.contract import schema
from tests.contract.client import Client, Reply
from tests.integration.fine_tuning import Place, refused


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
