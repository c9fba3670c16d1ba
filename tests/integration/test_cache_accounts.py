"""What a hit costs: one request of the limits, no tokens, no money, one line in the ledger."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests import native
from tests.contract.client import Client, Reply
from tests.hub import Hub, running_hub
from tests.integration.test_accounts_cli import aihub, said

TOML = """
[models.one]
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
        with running_hub(toml, AIHUB_CACHE_BYTES="1000000") as running:
            yield running


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
