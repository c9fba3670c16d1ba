"""Limits and budgets over four gateways: exact to the request, told to callers, seen by owners."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
import redis

from shared import keys
from shared.settings import Settings
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
def upstream(programs: Path) -> Iterator[Upstream]:
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
    with running_hub(toml, AIHUB_CACHE_BYTES="1000000") as hub:
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


def test_no_more_run_at_a_time_than_allowed(hub: Hub, lines: list[Line], admin: Admin) -> None:
    key = admin.key(concurrent=3)["value"]
    replies = crowd(lines, key, len(lines), tokens=1500)
    passed = sum(reply.status == 200 for reply in replies)
    assert passed == 3
    assert {r.code for r in replies if r.status == 429} == {"rate_limit_exceeded"}
    settled(hub)
    assert lines[0].ask(key).status == 200


def test_tokens_a_minute_are_held_and_then_settled(
    hub: Hub, lines: list[Line], admin: Admin
) -> None:
    key = admin.key(tokens_per_minute=2000)["value"]
    first = lines[0].ask(key, 100)
    usage = first.body["usage"]["total_tokens"]
    held = 2000 - int(first.headers["x-ratelimit-remaining-tokens"])
    assert 100 + ALLOWANCE < held < 100 + ALLOWANCE + 200
    settled(hub)
    second = lines[1].ask(key, 100)
    assert 2000 - int(second.headers["x-ratelimit-remaining-tokens"]) == usage + held
    large = lines[2].ask(key, 1500)
    assert (large.status, large.code) == (429, "rate_limit_exceeded")
    assert 50 < int(large.headers["retry-after"]) <= 61
    never = lines[2].ask(key, 4000)
    assert "too large" in never.body["error"]["message"]
    assert never.headers["x-should-retry"] == "false"
    assert "x-should-retry" not in large.headers


def test_a_budget_ends_with_its_last_micro_unit(lines: list[Line], admin: Admin) -> None:
    key = funded(admin, 100)
    assert lines[0].ask(key["value"], 60).status == 200
    refused = eventual(lambda: lines[1].ask(key["value"], 60), "does not begin anew")
    assert (refused.status, refused.code) == (429, "insufficient_quota")
    for part in (key["budget"], "this key", "limit 0.0001", "spent 0.00006", "most 0.00006"):
        assert part in refused.body["error"]["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert lines[2].ask(key["value"], 40).status == 200
    assert eventual(lambda: lines[3].ask(key["value"], 1), "spent 0.0001").status == 429
    use = admin.send("GET", f"//api/v1/admin/budgets/{key['budget']}").json["use"]
    assert (use["micros"], use["micros_held"], use["micros_left"]) == (100, 0, 0)
    assert (use["from_at"], use["until_at"], use["tokens_left"]) == (0, None, None)


def test_what_redis_forgot_is_looked_up_in_the_ledger_and_on_its_way_there(
    hub: Hub, lines: list[Line], admin: Admin
) -> None:
    key = funded(admin, 100)
    assert lines[0].ask(key["value"]).status == 200
    settled(hub)
    wait_for(lambda: not valkey(hub).xlen(keys.USAGE))
    with psycopg.connect(database(hub)) as writer:
        writer.execute("LOCK TABLE usage_event IN EXCLUSIVE MODE")
        assert lines[0].ask(key["value"], 60).status == 200
        settled(hub)
        assert valkey(hub).xlen(keys.USAGE) > 0
        assert valkey(hub).delete(keys.tally("key", key["id"])) == 1
        reply = lines[1].ask(key["value"], 60)
        assert "spent 0.000061" in reply.body["error"]["message"]
        valkey(hub).delete(keys.tally("key", key["id"]))
        use = admin.send("GET", f"//api/v1/admin/budgets/{key['budget']}").json["use"]
        assert use["micros"] == 61
    wait_for(lambda: not valkey(hub).xlen(keys.USAGE))
    valkey(hub).delete(keys.tally("key", key["id"]))
    reply = lines[2].ask(key["value"], 60)
    assert "spent 0.000061" in reply.body["error"]["message"]
    assert lines[3].ask(key["value"], 39).status == 200


def test_a_kept_answer_counts_as_a_request_and_costs_nothing(
    lines: list[Line], admin: Admin
) -> None:
    key = funded(admin, 100, requests_per_minute=3)
    replies = [lines[at].ask(key["value"], 50, temperature=0) for at in range(4)]
    assert [reply.status for reply in replies] == [200, 200, 200, 429]
    assert [reply.headers.get("x-aihub-cache") for reply in replies[:3]] == ["miss", "hit", "hit"]
    left = [reply.headers["x-ratelimit-remaining-requests"] for reply in replies]
    assert left == ["2", "1", "0", "0"]
    use = admin.send("GET", f"//api/v1/admin/budgets/{key['budget']}").json["use"]
    assert use["micros"] + use["micros_held"] == 50


def funded(admin: Admin, micros: int, **limits: int) -> dict[str, Any]:
    """A key whose budget is worth so many tokens of the model's answers."""
    reply = admin.send("PUT", "//api/v1/admin/prices/counting", b'{"output": 1000000}')
    assert reply.status == 200
    key = admin.key(**limits)
    asked = {"owner": "key", "owner_id": key["id"], "period": "total", "micros": micros}
    return {**key, "budget": admin.made("/budgets", **asked)["id"]}


def eventual(ask: Callable[[], Reply], wanted: str) -> Reply:
    """A refusal in these words: a hold is settled a moment after its reply has ended."""
    deadline = time.monotonic() + 30
    while wanted not in (reply := ask()).body["error"]["message"]:
        assert time.monotonic() < deadline, reply
    return reply


def wait_for(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def settled(hub: Hub) -> None:
    """Returns when nothing is held any more: that is a moment after the last reply has ended."""
    wait_for(lambda: not valkey(hub).exists(keys.HOLDS))


def valkey(hub: Hub) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(hub.home / "run" / "valkey.sock"))


def database(hub: Hub) -> str:
    return f"postgresql://aihub@/aihub?host={Settings(home=str(hub.home)).sockets}"


def test_a_refused_request_leaves_nothing(hub: Hub, lines: list[Line], admin: Admin) -> None:
    key = admin.key(tokens_per_minute=100)
    before = kept(hub)
    assert lines[0].ask(key["value"], 4000).status == 429
    assert not {name for name in kept(hub) - before if key["id"] in name or "hold" in name}


def kept(hub: Hub) -> set[str]:
    return {name.decode() for name in valkey(hub).scan_iter()}
