"""What goes wrong has OpenAI's shape, status, type, code and param."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contract.client import Client
from tests.hub import Hub

ASK = [{"role": "user", "content": "hi"}]


@pytest.fixture
def client(hub: Hub) -> Client:
    return Client(hub.base_url, hub.key)


@pytest.mark.parametrize(
    ("path", "fields", "status", "code", "param"),
    [
        ("chat/completions", {"model": None}, 400, "invalid_type", "model"),
        ("chat/completions", {"messages": []}, 400, "invalid_value", "messages"),
        ("chat/completions", {"temperature": 3}, 400, "invalid_value", "temperature"),
        ("chat/completions", {"model": "gpt-9"}, 404, "model_not_found", "model"),
        ("completions", {"prompt": None}, 400, "invalid_type", "prompt"),
        ("completions", {}, 400, "missing_required_parameter", "prompt"),
        ("embeddings", {"input": ""}, 400, "invalid_value", "input"),
        ("embeddings", {"input": "a"}, 400, None, "model"),
    ],
)
def test_a_wrong_request(
    client: Client,
    hub: Hub,
    path: str,
    fields: dict[str, Any],
    status: int,
    code: str | None,
    param: str,
) -> None:
    extra = {"messages": ASK} if path == "chat/completions" else {}
    body = {"model": hub.chat_model, **extra, **fields}
    reply = client.send("POST", f"/{path}", json.dumps(body).encode())
    assert (reply.status, reply.error["code"], reply.error["param"]) == (status, code, param)
    assert reply.error["type"] == "invalid_request_error"


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_beyond_the_context_is_refused_with_the_numbers(
    client: Client, hub: Hub, stream: bool
) -> None:
    messages = [{"role": "user", "content": "word " * 20_000}]
    reply = client.post("/chat/completions", model=hub.chat_model, messages=messages, stream=stream)
    assert (reply.status, reply.error["code"]) == (400, "context_length_exceeded")
    assert any(character.isdigit() for character in reply.error["message"])


@pytest.mark.parametrize("header", [None, "Bearer sk-wrong", "Basic abc", "Bearer"])
def test_a_wrong_key(hub: Hub, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for method, path in (("GET", "/models"), ("POST", "/chat/completions"), ("GET", "//metrics")):
        reply = Client(hub.base_url, None).send(method, path, b"{}", headers)
        assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
        assert reply.headers["www-authenticate"] == "Bearer"


def test_health_needs_no_key(hub: Hub) -> None:
    client = Client(hub.base_url, None)
    assert client.send("GET", "//health/live").status == 200
    assert client.send("GET", "//health/ready").json["status"] == "ready"


def test_metrics_are_prometheus_text(client: Client) -> None:
    reply = client.send("GET", "//metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE aihub_requests_total counter\n" in reply.body.decode()


def test_a_base_model_is_not_deleted(client: Client) -> None:
    reply = client.send("DELETE", "/models/smollm2")
    assert reply.status == 403
    assert "is not a tuned model" in reply.error["message"]


@pytest.mark.parametrize("path", ["//", "//nope", "/nope", "/modelsx", "/chat/completions/extra"])
def test_an_unknown_path(client: Client, path: str) -> None:
    reply = client.send("GET", path)
    assert reply.status == 404
    assert reply.error["code"] is None


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/chat/completions", {"POST", "OPTIONS"}),
        ("PUT", "/embeddings", {"POST", "OPTIONS"}),
        ("PUT", "/models/smollm2", {"GET", "HEAD", "DELETE", "OPTIONS"}),
    ],
)
def test_another_method(client: Client, method: str, path: str, allowed: set[str]) -> None:
    reply = client.send(method, path)
    assert reply.status == 405
    assert set(reply.headers["allow"].split(", ")) == allowed
    options = client.send("OPTIONS", path)
    assert (options.status, options.headers["allow"]) == (204, reply.headers["allow"])


def test_a_body_that_is_too_large(client: Client) -> None:
    body = b" " * (16 * 1024 * 1024 + 1)
    declared = {"Content-Length": str(len(body))}
    assert client.send("POST", "/chat/completions", b"", declared).status == 413


def test_the_clients_own_request_id_comes_back(client: Client) -> None:
    reply = client.send("GET", "/models", headers={"X-Client-Request-Id": "mine-1"})
    assert reply.headers["x-client-request-id"] == "mine-1"


def test_a_class_of_service_nobody_knows(client: Client, hub: Hub) -> None:
    body = json.dumps({"model": hub.chat_model, "messages": ASK, "max_tokens": 2}).encode()
    for name, status in (("batch", 200), ("standard", 200), ("first", 400)):
        reply = client.send("POST", "/chat/completions", body, {"X-AIHub-Class": name})
        assert reply.status == status
