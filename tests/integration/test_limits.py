"""Limits and budgets over four gateways: exact to the request, told to callers, seen by owners."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
import redis

from tests import native
from tests.contract.client import Client
from tests.hub import Hub, running_hub
from tests.native import Upstream

GATEWAYS = 4
PROCESS = re.compile(r'aihub_gateway_info\{process="([^"]+)"\}')
ALLOWANCE = 256
"""Tokens of the chat template that a request is held to need beside its text."""


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any

    @property
    def code(self) -> str:
        found: str = self.body["error"]["code"]
        return found


class Line:
    """One connection, which belongs to one gateway process."""

    def __init__(self, hub: Hub) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=60)
        self._connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {hub.key}"})
        self.process = PROCESS.findall(self._connection.getresponse().read().decode())[0]

    def ask(self, key: str, tokens: int = 1, **fields: Any) -> Reply:
        body = {
            "model": "counting",
            "messages": [{"role": "user", "content": "?"}],
            "max_tokens": tokens,
            **fields,
        }
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        reply = self._connection.getresponse()
        data = reply.read()
        found = {name.lower(): value for name, value in reply.getheaders()}
        return Reply(reply.status, found, None if fields.get("stream") else json.loads(data))

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    programs = native.build(tmp_path_factory.mktemp("native"))
    with native.upstream(programs, programs / "s", "--pace-ms", "4", "--pace-json") as running:
        yield running


@pytest.fixture(scope="module")
def hub(upstream: Upstream) -> Iterator[Hub]:
    toml = f"""
gateways = {GATEWAYS}
queue_limit = 1024
[models.counting]
engine = "openai"
url = "unix:{upstream.path}"
parallel = 64
"""
    with running_hub(toml) as hub:
        yield hub


@pytest.fixture
def lines(hub: Hub) -> Iterator[list[Line]]:
    """Connections to every gateway, several to each."""
    found: list[Line] = []
    deadline = time.monotonic() + 30
    while len({line.process for line in found}) < GATEWAYS or len(found) < 24:
        assert time.monotonic() < deadline
        found.append(Line(hub))
    yield found
    for line in found:
        line.close()


class Admin(Client):
    def __init__(self, hub: Hub) -> None:
        super().__init__(hub.base_url, hub.key)

    def made(self, path: str, **fields: Any) -> dict[str, Any]:
        reply = self.send("POST", f"//api/v1/admin{path}", json.dumps(fields).encode())
        assert reply.status == 200, reply.body
        found: dict[str, Any] = reply.json
        return found

    def key(self, project: str = "proj_default", **limits: int) -> dict[str, Any]:
        return self.made("/keys", name="limited", project=project, limits=limits)


@pytest.fixture
def admin(hub: Hub) -> Admin:
    return Admin(hub)


def crowd(lines: list[Line], key: str, requests: int, tokens: int = 1) -> list[Reply]:
    """So many requests, on all connections at once."""
    with ThreadPoolExecutor(len(lines)) as pool:
        shares = [requests // len(lines) + (i < requests % len(lines)) for i in range(len(lines))]
        runs = [
            pool.submit(lambda line, n: [line.ask(key, tokens) for _ in range(n)], line, share)
            for line, share in zip(lines, shares, strict=True)
        ]
        return [reply for run in runs for reply in run.result()]


def test_requests_a_minute_are_exact_to_the_request(lines: list[Line], admin: Admin) -> None:
    key = admin.key(requests_per_minute=37)["value"]
    replies = crowd(lines, key, 120)
    assert Counter(reply.status for reply in replies) == {200: 37, 429: 83}
    passed = [r.headers for r in replies if r.status == 200]
    left = sorted(int(headers["x-ratelimit-remaining-requests"]) for headers in passed)
    assert left == list(range(37))
    assert {headers["x-ratelimit-limit-requests"] for headers in passed} == {"37"}
    for reply in replies:
        if reply.status == 429:
            assert reply.code == "rate_limit_exceeded"
            assert "this key" in reply.body["error"]["message"]
            assert 0 < int(reply.headers["retry-after"]) <= 60
            assert reply.headers["x-ratelimit-remaining-requests"] == "0"
    print(f"\n{GATEWAYS} gateways, limit 37, 120 requests at once: 37 passed, 83 refused")


def test_a_projects_limit_holds_for_all_of_its_keys(lines: list[Line], admin: Admin) -> None:
    project = admin.made("/projects", name="small", limits={"requests_per_minute": 10})["id"]
    keys = [admin.key(project)["value"] for _ in range(2)]
    replies = [reply for key in keys for reply in crowd(lines, key, 24)]
    assert Counter(reply.status for reply in replies) == {200: 10, 429: 38}
    refused = next(reply for reply in replies if reply.status == 429)
    assert "this project" in refused.body["error"]["message"]


def test_no_more_run_at_a_time_than_allowed(
    lines: list[Line], admin: Admin, upstream: Upstream
) -> None:
    key = admin.key(concurrent=3)["value"]
    replies = crowd(lines, key, len(lines), tokens=250)
    passed = sum(reply.status == 200 for reply in replies)
    assert passed == 3
    assert {r.code for r in replies if r.status == 429} == {"rate_limit_exceeded"}
    assert lines[0].ask(key).status == 200


def test_tokens_a_minute_are_held_and_then_settled(lines: list[Line], admin: Admin) -> None:
    key = admin.key(tokens_per_minute=2000)["value"]
    first = lines[0].ask(key, 100)
    usage = first.body["usage"]["total_tokens"]
    held = 2000 - int(first.headers["x-ratelimit-remaining-tokens"])
    assert 100 + ALLOWANCE < held < 100 + ALLOWANCE + 200
    second = lines[1].ask(key, 100)
    assert 2000 - int(second.headers["x-ratelimit-remaining-tokens"]) == usage + held
    large = lines[2].ask(key, 1500)
    assert (large.status, large.code) == (429, "rate_limit_exceeded")
    assert 50 < int(large.headers["retry-after"]) <= 61
    never = lines[2].ask(key, 4000)
    assert "too large" in never.body["error"]["message"]
    assert never.headers["x-should-retry"] == "false"
    assert "x-should-retry" not in large.headers


def test_a_refused_request_leaves_nothing(hub: Hub, lines: list[Line], admin: Admin) -> None:
    key = admin.key(tokens_per_minute=100)
    before = kept(hub)
    assert lines[0].ask(key["value"], 4000).status == 429
    assert not {name for name in kept(hub) - before if key["id"] in name or "hold" in name}


def kept(hub: Hub) -> set[str]:
    with redis.Redis(unix_socket_path=str(hub.home / "run" / "valkey.sock")) as client:
        return {name.decode() for name in client.scan_iter()}
