"""An Ollama server whose models are offered by themselves, from `ollama pull` to the client."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from shared.settings import Settings
from tests.fakes.ollama_apart import Apart, ollama_apart
from tests.fakes.ollama_disk import CHAT, DISK
from tests.hub import Hub, running_hub

WITHIN = 60.0
EMBEDDING = "all-minilm:latest"
ASKED: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Count from one to twenty in words."}],
    "max_tokens": 8,
    "temperature": 0,
}


@pytest.fixture(scope="module")
def server(lent: Path) -> Iterator[Apart]:
    with ollama_apart({CHAT: DISK[CHAT]}, Settings(home=str(lent))) as running:
        yield running


@pytest.fixture(scope="module")
def hub(server: Apart) -> Iterator[Hub]:
    table = f'[models."box/*"]\nengine = "ollama"\nurl = "{server.url}"\n'
    toml = f"gateways = 2\n{table}context = 1024\nparallel = 1\n"
    with running_hub(toml) as running:
        yield running


@pytest.fixture(scope="module")
def client(hub: Hub) -> openai.OpenAI:
    return openai.OpenAI(base_url=hub.base_url, api_key=hub.key, max_retries=0)


def wait_for(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def listed(client: openai.OpenAI) -> set[str]:
    return {model.id for model in client.models.list()}


def lists(hub: Hub, *names: str) -> None:
    """Waits until just these are listed, by both gateways as far as twenty connections tell."""

    def fresh() -> set[str]:
        told: Any = hub.get("/v1/models")[1]
        return {model["id"] for model in told["data"]}

    wait_for(lambda: all(fresh() == set(names) for _ in range(20)))


def answered(ask: Callable[[], Any]) -> Any:
    """The first answer of a hub that may lack what it needs for some seconds."""
    deadline = time.monotonic() + WITHIN
    while True:
        try:
            return ask()
        except (openai.InternalServerError, openai.APIConnectionError):
            assert time.monotonic() < deadline
            time.sleep(0.2)


def order(hub: Hub, what: str, **fields: Any) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{hub.url}/api/v1/models/{what}",
        json.dumps(fields).encode(),
        {"Authorization": f"Bearer {hub.key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        told: dict[str, Any] = json.load(reply)
        return told


def test_a_model_answers_without_a_table_of_its_own(hub: Hub, client: openai.OpenAI) -> None:
    lists(hub, "box/smollm2:135m")
    told = client.models.retrieve("box/smollm2:135m").model_extra
    assert told is not None
    assert told["aihub"]["kind"] == "chat"
    assert told["aihub"]["context"] == 1024
    assert told["aihub"]["state"] == "absent"
    whole = client.chat.completions.create(model="box/smollm2:135m", **ASKED)
    assert whole.usage is not None and whole.usage.completion_tokens == 8
    parts = client.chat.completions.create(model="box/smollm2:135m", stream=True, **ASKED)
    text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    assert text == whole.choices[0].message.content
    routed = client.chat.completions.with_raw_response.create(model="auto", **ASKED)
    assert routed.headers["x-aihub-route"].startswith("box/smollm2:135m;")


def test_one_that_is_pulled_appears(server: Apart, hub: Hub, client: openai.OpenAI) -> None:
    lists(hub, "box/smollm2:135m")
    server.disk[EMBEDDING] = DISK[EMBEDDING]
    lists(hub, "box/smollm2:135m", "box/all-minilm:latest")
    rows = client.embeddings.create(model="box/all-minilm", input=["one", "two"]).data
    assert [len(row.embedding) for row in rows] == [384, 384]


def test_orders_and_status(server: Apart, hub: Hub, client: openai.OpenAI) -> None:
    server.disk[EMBEDDING] = DISK[EMBEDDING]
    lists(hub, "box/smollm2:135m", "box/all-minilm:latest")
    assert order(hub, "load", model="box/all-minilm", wait=True)["state"] == "ready"
    assert EMBEDDING in server.memory.held
    pinned = order(hub, "pin", model="box/all-minilm")["data"]
    assert pinned and all(one["pinned"] for one in pinned)

    def shown() -> dict[str, str]:
        told: Any = hub.get("/api/v1/models/status")[1]
        return {
            one["model"]: one["state"] for worker in told["workers"] for one in worker["models"]
        }

    # A gateway tells what it read of the workers within the last second.
    wait_for(lambda: shown().get("box/all-minilm:latest") == "ready")
    assert set(shown()) == {"box/smollm2:135m", "box/all-minilm:latest"}
    status: Any = hub.get("/api/v1/models/status")[1]
    assert status["unserved"] == []
    gone = order(hub, "unload", model="box/all-minilm", wait=True)["data"]
    assert {one["state"] for one in gone} == {"absent"}
    assert EMBEDDING not in server.memory.held


def test_one_that_is_deleted_leaves(server: Apart, hub: Hub, client: openai.OpenAI) -> None:
    server.disk["copy:latest"] = DISK[CHAT]
    lists(hub, "box/smollm2:135m", "box/copy:latest", *left(server))
    client.chat.completions.create(model="box/copy", **ASKED)
    del server.disk["copy:latest"]
    lists(hub, "box/smollm2:135m", *left(server))
    for name in ("box/copy", "box/copy:latest"):
        with pytest.raises(openai.NotFoundError, match="of 'box/\\*' has none of that name"):
            client.chat.completions.create(model=name, **ASKED)
    server.disk["copy:latest"] = DISK[CHAT]
    lists(hub, "box/smollm2:135m", "box/copy:latest", *left(server))
    answered(lambda: client.chat.completions.create(model="box/copy", **ASKED))
    del server.disk["copy:latest"]
    lists(hub, "box/smollm2:135m", *left(server))


def left(server: Apart) -> set[str]:
    return {"box/all-minilm:latest"} & {f"box/{name}" for name in server.disk}


def test_who_is_served_when_it_is_deleted_is_served_and_who_waits_is_told(
    server: Apart, hub: Hub, client: openai.OpenAI
) -> None:
    server.disk["copy:latest"] = DISK[CHAT]
    lists(hub, "box/smollm2:135m", "box/copy:latest", *left(server))
    long = {**ASKED, "max_tokens": 600}
    stream = client.chat.completions.create(model="box/copy", stream=True, **long)
    parts = [next(stream)]
    with ThreadPoolExecutor(1) as others:
        waiting = others.submit(client.chat.completions.create, model="box/copy", **ASKED)
        try:
            wait_for(lambda: places(hub, "box/copy:latest") == (1, 1))
        finally:
            del server.disk["copy:latest"]
        with pytest.raises(openai.NotFoundError, match="its server has removed it") as told:
            waiting.result(WITHIN)
    assert told.value.code == "model_not_found"
    parts += stream
    assert parts[-1].choices[0].finish_reason in ("length", "stop")
    lists(hub, "box/smollm2:135m", *left(server))
    wait_for(lambda: places(hub, "box/copy:latest") is None)


def places(hub: Hub, model: str) -> tuple[int, int] | None:
    """How many its workers serve and how many wait there; None: they have no such model."""
    status: Any = hub.get("/api/v1/models/status")[1]
    models = [one for worker in status["workers"] for one in worker["models"]]
    found = [one for one in models if one["model"] == model]
    counts = [sum(one[what] for one in found) for what in ("serving", "waiting")]
    return (counts[0], counts[1]) if found else None


def test_keys_are_held_to_a_table(server: Apart, hub: Hub) -> None:
    def asking(*names: str) -> openai.OpenAI:
        body = json.dumps({"name": "k", "scopes": ["inference"], "models": names}).encode()
        head = {"Authorization": f"Bearer {hub.key}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{hub.url}/api/v1/admin/keys", body, head)
        with urllib.request.urlopen(request, timeout=30) as reply:
            key = json.load(reply)["value"]
        return openai.OpenAI(base_url=hub.base_url, api_key=key, max_retries=0)

    with asking("box/*") as all_of_it, asking("box/later:7b") as another:
        assert listed(all_of_it) == {"box/smollm2:135m", *left(server)}
        assert listed(another) == set()
        with pytest.raises(openai.PermissionDeniedError):
            another.chat.completions.create(model="box/smollm2:135m", **ASKED)


def test_a_worker_that_begins_anew(server: Apart, hub: Hub, client: openai.OpenAI) -> None:
    known = ("box/smollm2:135m", *left(server))
    lists(hub, *known)
    hub.kill("worker")
    whole = answered(lambda: client.chat.completions.create(model="box/smollm2:135m", **ASKED))
    assert whole.usage.completion_tokens == 8
    assert listed(client) == set(known)
    for gateway in hub.pids("gateway")[1:]:
        hub.kill_pid(gateway)
    wait_for(lambda: answered(lambda: listed(client)) == set(known))


def test_a_server_that_is_away_and_comes_back(
    server: Apart, hub: Hub, client: openai.OpenAI
) -> None:
    known = ("box/smollm2:135m", *left(server))
    lists(hub, *known)
    server.go_away()
    try:
        with pytest.raises(openai.InternalServerError) as refused:
            client.chat.completions.create(model="box/smollm2:135m", **ASKED)
        assert "Ollama does not answer" in refused.value.message
        assert hub.ready()
        assert listed(client) == set(known)
    finally:
        server.come_back()
    whole = answered(lambda: client.chat.completions.create(model="box/smollm2:135m", **ASKED))
    assert whole.usage.completion_tokens == 8
