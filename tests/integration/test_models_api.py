"""Models loaded, seen, pinned and unloaded by an administrator: real weights in too little room."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests import adapters
from tests.command import aihub
from tests.contract.client import Client, Reply
from tests.hub import Hub, running_hub
from tests.integration.model_desk import Desk

TABLE = """
[models.{name}]
engine = "llamacpp"
file = "smollm2-135m-instruct.q8_0.gguf"
context = 1024
threads = 1
preload = false
"""
HUGE = """
[models.huge]
engine = "llamacpp"
file = "smollm2-135m-instruct.q8_0.gguf"
context = 100000
preload = false

[models.broken]
engine = "llamacpp"
file = "nothing.gguf"
preload = false
"""
ASK: Any = [{"role": "user", "content": "Count from one to one hundred in words."}]
ROOM = "520MiB"
"""For one of the models, not for two."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("made")
    adapters.save(folder / "tuned", seed=1)
    adapters.save(folder / "bad", use_dora=True)
    named = f'[models.adapted.adapters]\ntuned = "{folder}/tuned"\nbad = "{folder}/bad"\n'
    toml = "".join(TABLE.format(name=name) for name in ("first", "second", "adapted"))
    with running_hub(toml + "loaded_adapters = 1\n" + named + HUGE, AIHUB_MEMORY=ROOM) as running:
        yield running


@pytest.fixture
def desk(hub: Hub) -> Desk:
    desk = Desk(hub)
    desk.empty()
    desk.begin()
    return desk


def listed(hub: Hub, name: str) -> dict[str, Any]:
    found: dict[str, Any] = Client(hub.base_url, hub.key).send("GET", f"/models/{name}").json
    return found["aihub"]  # type: ignore[no-any-return]


def test_a_load_is_seen_to_begin_and_to_end(hub: Hub, desk: Desk) -> None:
    begun = desk.order("load", "first")
    assert (begun.status, begun.json["state"]) == (202, "loading")
    assert (begun.json["asked"], begun.json["bytes"]["reserved"]) == (True, 0)
    ready = desk.until("first", state="ready", asked=False)
    held = ready["bytes"]
    assert 100 << 20 < held["measured"] <= held["reserved"]
    assert ready["idle_seconds"] is not None
    assert (listed(hub, "first")["state"], listed(hub, "first")["devices"]) == ("ready", ["cpu"])
    again = desk.order("load", "first")
    assert (again.status, again.json["since_seconds"] > 0) == (200, True)
    [worker] = desk.status()["workers"]
    assert worker["device"]["budget"] == 520 << 20
    assert worker["device"]["reserved"] == held["reserved"]
    assert any("asked for" in one["text"] for one in worker["decisions"])


def test_a_load_that_does_not_fit_is_refused_with_the_numbers(desk: Desk) -> None:
    for fields in ({}, {"wait": True}, {"pin": True}):
        refused = desk.order("load", "huge", **fields)
        assert (refused.status, refused.error["param"]) == (400, "model")
        assert "huge needs 8.9" in refused.error["message"]
        assert "GiB can be had" in refused.error["message"]
    assert desk.model("huge")["pinned"] is False


def test_a_load_makes_room_and_a_pin_keeps_it(desk: Desk) -> None:
    desk.load("first")
    assert desk.load("second")["state"] == "ready"
    assert desk.model("first")["state"] == "absent"
    pinned = desk.order("pin", "second")
    assert [one["pinned"] for one in pinned.json["data"]] == [True]
    refused = desk.order("load", "first")
    assert (refused.status, refused.error["param"]) == (400, "model")
    assert "pinned" in refused.error["message"]
    over = desk.order("pin", "first")
    assert (over.status, over.error["param"]) == (400, "model")
    assert "beside what is pinned" in over.error["message"]
    assert desk.order("unpin", "second").json["data"][0]["pinned"] is False
    assert desk.load("first", pin=True)["pinned"] is True
    assert desk.model("second")["state"] == "absent"


def test_an_unload_lets_a_stream_end(hub: Hub, desk: Desk) -> None:
    desk.load("first")
    client = openai.OpenAI(base_url=hub.base_url, api_key=hub.key, max_retries=0)
    asked = {"model": "first", "messages": ASK, "max_tokens": 60, "temperature": 0}
    whole = client.chat.completions.create(**asked).choices[0].message.content
    with client.chat.completions.create(**asked, stream=True) as stream:
        parts = [next(stream)]
        going = desk.order("unload", "first")
        assert (going.status, going.json["data"][0]["state"]) == (202, "draining")
        assert going.json["data"][0]["serving"] == 1
        late = desk.order("unload", "first", wait=0.01)
        assert (late.status, late.error["code"]) == (504, "request_timeout")
        parts += list(stream)
    assert "".join(p.choices[0].delta.content or "" for p in parts if p.choices) == whole
    assert desk.until("first", state="absent")["bytes"]["reserved"] == 0


def test_a_load_that_fails_says_the_engines_words(desk: Desk) -> None:
    failed = desk.order("load", "broken", wait=True)
    assert (failed.status, failed.error["code"]) == (500, "engine_failed")
    assert "lacks its file nothing.gguf" in failed.error["message"]
    told = desk.model("broken")
    assert told["state"] == "failed"
    assert "lacks its file nothing.gguf" in told["why"]
    assert told["retry_seconds"] is not None


def test_each_order_that_changes_something_leaves_an_audit_row(hub: Hub, desk: Desk) -> None:
    desk.load("first", pin=True)
    assert desk.order("load", "first").status == 200
    assert desk.order("load", "huge").status == 400
    desk.order("unpin", "first")
    desk.order("unpin", "first")
    desk.order("unload", "first", wait=True)
    rows = desk.audit("first")
    assert [row["type"] for row in rows] == ["model.load", "model.unpin", "model.unload"]
    loaded, unpinned, unloaded = rows
    worker = desk.model("first")["worker"]
    before, after = loaded["before"], loaded["after"]
    assert (before["state"], before["pinned"]) == ("absent", False)
    assert (after["state"], after["asked"], after["pinned"]) == ("loading", True, True)
    assert {row["after"]["worker"] for row in rows} == {worker}
    assert {row["after"]["device"] for row in rows} == {"cpu"}
    assert unpinned["model.unpin"]["changes_requested"] == {"pinned": False}
    assert unloaded["before"]["state"] == "ready"
    assert all(row["actor"]["api_key"]["id"].startswith("key_") for row in rows)
    assert desk.audit("huge") == []


def test_an_adapter_is_loaded_by_its_own_name(hub: Hub, desk: Desk) -> None:
    told = desk.load("tuned")
    assert (told["model"], told["state"]) == ("adapted", "ready")
    assert told["adapters"]["tuned@1"] == "ready"
    assert listed(hub, "tuned")["state"] == "ready"
    broken = desk.order("load", "bad", wait=True)
    assert broken.status == 400
    assert "use_dora" in broken.error["message"]
    refused = desk.order("unload", "tuned")
    assert (refused.status, refused.error["code"]) == (400, "unsupported_value")
    assert "'adapted'" in refused.error["message"]


@pytest.mark.parametrize(
    ("what", "fields", "status", "code", "param"),
    [
        ("load", {"model": "nope"}, 404, "model_not_found", "model"),
        ("unload", {"model": "nope"}, 404, "model_not_found", "model"),
        ("load", {}, 400, "missing_required_parameter", "model"),
        ("load", {"model": ""}, 400, "invalid_value", "model"),
        ("load", {"model": 1}, 400, "invalid_type", "model"),
        ("load", {"model": "first", "wait": -1}, 400, "invalid_value", "wait"),
        ("load", {"model": "first", "wait": "long"}, 400, "invalid_type", "wait"),
        ("load", {"model": "first", "pin": 1}, 400, "invalid_type", "pin"),
        ("unload", {"model": "first", "pin": True}, 400, "unsupported_parameter", "pin"),
        ("pin", {"model": "first", "wait": True}, 400, "unsupported_parameter", "wait"),
        ("unpin", {"model": "first", "worker": "wk-0"}, 400, "invalid_value", "worker"),
    ],
)
def test_a_wrong_order_names_what_is_wrong(
    hub: Hub, what: str, fields: dict[str, Any], status: int, code: str, param: str
) -> None:
    reply = Desk(hub).order(what, **fields)
    assert (reply.status, reply.error["code"], reply.error["param"]) == (status, code, param)


def test_a_status_of_nothing(hub: Hub) -> None:
    client = Client(hub.base_url, hub.key)
    for query, status, param in (("model=nope", 404, "model"), ("modle=first", 400, "modle")):
        reply = client.send("GET", f"//api/v1/models/status?{query}")
        assert (reply.status, reply.error["param"]) == (status, param)


def test_keys_without_the_scope_are_told_so(hub: Hub) -> None:
    made = aihub(hub, "keys", "create", "plain").stdout.strip()
    client = Client(hub.base_url, made)
    assert client.send("GET", "/models").status == 200
    for method, what in (("POST", "load"), ("POST", "unload"), ("POST", "pin"), ("GET", "status")):
        reply = client.send(method, f"//api/v1/models/{what}", b'{"model":"first"}')
        assert (reply.status, reply.error["code"]) == (403, "insufficient_permissions")


def test_the_books_are_in_the_metrics(hub: Hub, desk: Desk) -> None:
    held = desk.load("second")["bytes"]
    text = Client(hub.base_url, hub.key).send("GET", "//metrics").body.decode()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("aihub_"))
    found = {name.partition("{")[0]: float(value) for name, value in lines.items()}
    assert found["aihub_device_budget_bytes"] == 520 << 20
    assert found["aihub_device_reserved_bytes"] == held["reserved"]
    assert found["aihub_model_measured_bytes"] > 100 << 20


def test_the_command_does_the_same(hub: Hub, desk: Desk) -> None:
    loaded = aihub(hub, "models", "load", "first", "--pin")
    assert loaded.returncode == 0, loaded.stderr
    assert "first is ready on cpu" in loaded.stdout
    assert "measured, pinned" in loaded.stdout
    table = aihub(hub, "models", "status").stdout
    [row] = [line for line in table.splitlines() if line.startswith("  first ")]
    assert "ready" in row
    assert "pinned" in row
    assert "520.0 MiB for models" in table
    whole = aihub(hub, "models", "status", "first", "--json").stdout
    assert json.loads(whole)["workers"][0]["models"][0]["pinned"] is True
    catalog = aihub(hub, "models").stdout.splitlines()
    assert any(line.split()[:5:4] == ["first", "ready"] for line in catalog)
    assert "first is ready" in aihub(hub, "models", "unpin", "first").stdout
    gone = aihub(hub, "models", "unload", "first")
    assert (gone.returncode, gone.stdout.startswith("first is absent")) == (0, True)


def test_the_command_fails_in_one_line(hub: Hub) -> None:
    for arguments, words in (
        (("load", "huge"), "GiB can be had"),
        (("load", "broken"), "lacks its file"),
        (("unload", "nope"), "does not exist"),
        (("pin", "first", "--worker", "nobody"), "No worker 'nobody'"),
        (("status", "--base-url", "http://127.0.0.1:1/v1"), "does not answer"),
    ):
        done = aihub(hub, "models", *arguments)
        assert done.returncode == 1
        assert words in done.stderr.splitlines()[-1]
        assert done.stdout == ""


def test_two_orders_at_a_time_are_both_obeyed(desk: Desk) -> None:
    answers: dict[str, Reply] = {}

    def ask(name: str) -> None:
        answers[name] = desk.order("load", name, wait=True)

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: reply.status for name, reply in answers.items()} == {"first": 200, "second": 200}
