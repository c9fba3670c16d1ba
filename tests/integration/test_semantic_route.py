"""The semantic cache in the chat route: a whole hub, the real openai client, real embeddings."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import psycopg
import pytest

from gateway.cache.kept import Kept, encode
from shared import settings
from shared.wire.event import Answer, Choice, Usage
from tests.command import aihub
from tests.contract.client import Client
from tests.hub import Hub, running_hub

ADMIN = "//api/v1/admin"
ASKED = "What is the capital of Peru?"
MEANT = "hi, can you tell me what the capital of Peru is?"
WRONG = "No. It is Cusco, 9 km away."
OTHER = "What is the capital of Chile?"


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with running_hub(AIHUB_CACHE_BYTES="1000000") as running:
        yield running


class Project:
    """One whose semantic cache is on; the exact one only where `response` says so."""

    def __init__(self, hub: Hub, name: str, *, response: bool = False, **semantic: Any) -> None:
        self.hub = hub
        self.admin = Client(hub.base_url, hub.key)
        fields = {
            "name": name,
            "cache": {"response": response, "semantic": {"enabled": True} | semantic},
        }
        self.id = self.send("POST", "/projects", fields)["id"]
        key = aihub(hub, "keys", "create", "k", "--project", self.id).stdout.strip()
        self.client = openai.OpenAI(base_url=hub.base_url, api_key=key, max_retries=0, timeout=60)

    def send(self, method: str, path: str, fields: Any = None) -> Any:
        body = None if fields is None else json.dumps(fields).encode()
        reply = self.admin.send(method, ADMIN + path, body)
        assert reply.status == 200, reply.body
        return reply.json

    def status(self) -> Any:
        return self.send("GET", f"/projects/{self.id}/semantic_cache")

    def ask(self, text: str, **fields: Any) -> tuple[str | None, str]:
        """How the caches took part, and the text."""
        given = {"max_tokens": 60, "temperature": 0.0, **fields}
        raw = self.client.chat.completions.with_raw_response.create(
            model=self.hub.chat_model, messages=[{"role": "user", "content": text}], **given
        )
        how = raw.headers.get("x-aihub-cache")
        if not given.get("stream"):
            return how, raw.parse().choices[0].message.content or ""
        chunks: Any = raw.parse()
        return how, "".join(c.delta.content or "" for k in chunks for c in k.choices)


def until(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def teach(project: Project, text: str = ASKED) -> set[str]:
    """Asks until an answer is kept; returns what was said.

    That happens behind the reply, and not where the embedding took more than its second.
    """
    said: set[str] = set()

    def kept() -> bool:
        said.add(project.ask(text)[1])
        return bool(project.status()["answers"] > 0)

    until(kept)
    return said


def meant(project: Project, said: set[str], text: str = MEANT, **fields: Any) -> None:
    """Asks until it is answered by meaning, with what was said before."""

    def answered() -> bool:
        how, answer = project.ask(text, **fields)
        assert how in ("semantic", "miss")
        if how == "semantic":
            assert answer in said
        said.add(answer)
        return how == "semantic"

    until(answered)


def test_what_means_the_same_gets_the_same_answer(hub: Hub) -> None:
    project = Project(hub, "Same", bound=1.0, shadow=0.0)
    said = teach(project)
    meant(project, said)
    meant(project, said, stream=True)
    assert project.ask(OTHER)[0] == "miss"
    assert project.ask(MEANT, temperature=0.7)[0] == "miss"
    assert Project(hub, "Another").ask(MEANT)[0] == "miss"


def test_the_exact_cache_is_asked_first(hub: Hub) -> None:
    project = Project(hub, "Exact", response=True, bound=1.0, shadow=0.0)
    how, answer = project.ask(ASKED)
    assert how == "miss"
    assert project.ask(ASKED) == ("hit", answer)
    gone = project.send("DELETE", f"/cache?project={project.id}")
    assert gone["exact"] == 1


def test_what_is_sampled_is_looked_up_by_meaning_only(hub: Hub) -> None:
    project = Project(hub, "Sampled", response=True, bound=1.0, shadow=0.0)
    said: set[str] = set()
    meant(project, said, ASKED, temperature=0.9)
    for header in ("no-cache", "no-store"):
        told = project.ask(ASKED, temperature=0.9, extra_headers={"Cache-Control": header})
        assert told[0] in (None, "off")


def test_a_check_that_finds_another_answer_turns_it_off(hub: Hub) -> None:
    """The kept answer is made wrong by hand; the check computes the right one."""
    project = Project(hub, "Checked", bound=0.05)
    said = teach(project)
    meant(project, said)
    until(lambda: project.status()["trial"]["checked"] == 1)
    assert project.status()["state"] == "unproven"
    spoil(hub, project)
    meant(project, {WRONG})
    until(lambda: project.status()["state"] == "turned_off")
    assert project.status()["trial"]["wrong"] == 1
    assert project.ask(MEANT)[0] in (None, "miss")
    metrics = Client(hub.base_url, hub.key).send("GET", "//metrics").body.decode()
    assert "aihub_semantic_turned_off_total 1" in metrics
    assert 'aihub_semantic_checks_total{outcome="different"} 1' in metrics
    log = project.send("GET", f"/audit?project_ids[]={project.id}")["data"]
    assert "semantic_cache.turned_off" in [row["type"] for row in log]


def spoil(hub: Hub, project: Project) -> None:
    wrong = encode(Kept(1, [Answer([Choice(WRONG, "stop")], Usage())]))
    sockets = settings.load({"AIHUB_HOME": str(hub.home)}, hub.home).sockets
    with psycopg.connect(f"postgresql://aihub@/aihub?host={sockets}") as connection:
        connection.execute(
            "UPDATE semantic_answer SET answer = %s WHERE id IN"
            " (SELECT id FROM semantic_neighbour WHERE project_id = %s)",
            (wrong, project.id),
        )


def test_it_is_purged_and_ends_with_its_project(hub: Hub) -> None:
    project = Project(hub, "Purged", bound=1.0, shadow=0.0)
    teach(project)
    gone = project.send("DELETE", f"/cache?project={project.id}&model=smollm2")
    assert (gone["exact"], gone["semantic"]) == (0, 1)
    assert project.status()["answers"] == 0
    teach(project)
    project.send("POST", f"/projects/{project.id}/archive")
    assert project.status()["answers"] == 0
