"""What is kept goes when an administrator says so, or with its project; what a hit costs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests import native
from tests.command import aihub, said
from tests.contract.client import Client, Reply
from tests.hub import Hub, running_hub

TOML = """
[models.one]
engine = "openai"
url = "unix:{path}"
aliases = ["uno"]
[models.two]
engine = "openai"
url = "unix:{path}"
"""
ADMIN = "//api/v1/admin"
RPM = 6


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    programs = native.build(tmp_path_factory.mktemp("native"))
    with native.upstream(programs, programs / "s", "--pace-ms", "1") as upstream:
        toml = TOML.format(path=upstream.path)
        with running_hub(toml, AIHUB_CACHE_BYTES="1000000", AIHUB_GATEWAYS="2") as running:
            yield running


class Project:
    """One with a key and an answer of each model kept."""

    def __init__(self, hub: Hub, name: str) -> None:
        self.id = said(hub, "projects", "create", name).strip()
        key = aihub(hub, "keys", "create", "k", "--project", self.id).stdout.strip()
        self.client = Client(hub.base_url, key)
        for model in ("one", "two"):
            assert self.ask(model) == "miss"

    def ask(self, model: str) -> str:
        reply = self.client.post(
            "/chat/completions",
            model=model,
            temperature=0,
            max_tokens=4,
            messages=[{"role": "user", "content": "Why?"}],
        )
        assert reply.status == 200, reply.body
        return reply.headers["x-aihub-cache"]

    def asked(self) -> list[str]:
        return [self.ask("one"), self.ask("two")]


def admin(hub: Hub, method: str, path: str) -> Any:
    reply = Client(hub.base_url, hub.key).send(method, ADMIN + path)
    assert reply.status == 200, reply.body
    return reply.json


def audited(hub: Hub, project: str) -> list[dict[str, Any]]:
    log = admin(hub, "GET", "/audit?event_types[]=cache.purged&limit=100")["data"]
    return [row for row in log if project in json.dumps(row)]


def test_by_project_by_model_and_all(hub: Hub) -> None:
    first, second = Project(hub, "First"), Project(hub, "Second")
    assert first.asked() == second.asked() == ["hit", "hit"]
    assert admin(hub, "GET", "/cache")["answers"] == 4
    assert "4 answers" in said(hub, "cache", "show")
    done = said(hub, "cache", "purge", "--project", "First", "--model", "uno")
    assert done == "1 exact and 0 semantic answers are gone\n"
    assert first.asked() == ["miss", "hit"]
    assert second.asked() == ["hit", "hit"]
    gone = admin(hub, "DELETE", "/cache?model=two")
    assert (gone["exact"], gone["semantic"], gone["model"], gone["project"]) == (2, 0, "two", None)
    assert first.asked() == second.asked() == ["hit", "miss"]
    assert admin(hub, "DELETE", f"/cache?project={first.id}")["exact"] == 2
    assert second.asked() == ["hit", "hit"]
    assert said(hub, "cache", "purge").startswith("2 exact")
    assert admin(hub, "GET", "/cache")["answers"] == 0
    rows = audited(hub, first.id)
    assert len(rows) == 2
    assert any(row["after"]["model"] == "uno" for row in rows if row.get("after"))


def test_a_project_that_ends_leaves_nothing(hub: Hub) -> None:
    ended, other = Project(hub, "Ended"), Project(hub, "Other")
    before = admin(hub, "GET", "/cache")["answers"]
    said(hub, "projects", "archive", "Ended")
    assert admin(hub, "GET", "/cache")["answers"] == before - 2
    assert other.asked() == ["hit", "hit"]
    assert ended.id


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ("?project=proj_none", 404, "id"),
        ("?projekt=x", 400, "projekt"),
        ("?model=a&model=b", 400, "model"),
    ],
)
def test_bad_input_changes_nothing(hub: Hub, query: str, status: int, param: str) -> None:
    before = admin(hub, "GET", "/cache"), admin(hub, "GET", "/audit")["data"]
    reply = Client(hub.base_url, hub.key).send("DELETE", f"{ADMIN}/cache{query}")
    assert (reply.status, reply.error["param"]) == (status, param)
    assert (admin(hub, "GET", "/cache"), admin(hub, "GET", "/audit")["data"]) == before


def test_it_needs_the_scope(hub: Hub) -> None:
    key = aihub(hub, "keys", "create", "reads", "--scope", "admin.read").stdout.strip()
    reader = Client(hub.base_url, key)
    assert reader.send("GET", f"{ADMIN}/cache").status == 200
    assert reader.send("DELETE", f"{ADMIN}/cache").status == 403


def ask(client: Client, about: str, *, stream: bool = False) -> Reply:
    return client.post(
        "/chat/completions",
        model="one",
        temperature=0,
        max_tokens=8,
        messages=[{"role": "user", "content": about}],
        stream=stream,
    )


def receipt(client: Client, reply: Reply) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        found = client.send("GET", f"//api/v1/requests/{reply.headers['x-request-id']}")
        if found.status == 200:
            told: dict[str, Any] = found.json
            return told
        assert time.monotonic() < deadline, found.body
        time.sleep(0.05)


def test_a_hit_is_a_request_without_tokens_and_money(hub: Hub) -> None:
    admin = Client(hub.base_url, hub.key)
    price = json.dumps({"input": 1_000_000_000, "output": 1_000_000_000}).encode()
    assert admin.send("PUT", f"{ADMIN}/prices/one", price).status == 200
    project = said(hub, "projects", "create", "Limited", "--rpm", str(RPM)).strip()
    key = aihub(hub, "keys", "create", "k", "--project", project).stdout.strip()
    client = Client(hub.base_url, key)
    miss = ask(client, "Why?")
    hits = [ask(client, "Why?", stream=number % 2 == 1) for number in range(RPM - 1)]
    assert [reply.headers["x-aihub-cache"] for reply in (miss, *hits)] == ["miss"] + ["hit"] * 5
    left = [int(reply.headers["x-ratelimit-remaining-requests"]) for reply in (miss, *hits)]
    assert left == [5, 4, 3, 2, 1, 0]
    refused = ask(client, "Why?")
    assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
    paid, free = receipt(client, miss), [receipt(client, hit) for hit in hits]
    assert (paid["cache"], paid["tokens_out"]) == ("none", 8)
    assert paid["micros"] > 0
    for one in free:
        assert (one["cache"], one["status"], one["micros"]) == ("exact", 200, 0)
        assert (one["tokens_in"], one["tokens_out"], one["gpu_ms"]) == (0, 0, 0)
        assert one["model"] == "one"
