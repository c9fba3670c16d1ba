"""No answer of an earlier version, nor of files that were replaced: real engine, real adapters."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from shared import settings
from tests import adapters, models
from tests.contract.client import Client, Reply
from tests.hub import Hub, running_hub

TOML = """
gateways = 2
[models.base]
engine = "llamacpp"
file = "{file}"
context = 512
threads = 1
"""
FLIPS = 10
ALIAS = "//api/v1/model_aliases/law"
JOB = """
INSERT INTO fine_tuning_job (
    id, project_id, key_id, model, method, status, training_file, asked, seed, finished_at
) VALUES (
    'ftjob-1', 'proj_default', 'key', 'base', 'supervised', 'succeeded', 'a.jsonl', '{}', 1, now()
)
"""
MODEL = """
INSERT INTO tuned_model (name, project_id, base, job_id, path, bytes)
VALUES (%(name)s, 'proj_default', 'base', 'ftjob-1', %(path)s, 1)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.fixture(scope="module")
def hub(folder: Path) -> Iterator[Hub]:
    adapters.save(folder / "v1", seed=1)
    adapters.save(folder / "v2", seed=2, use_rslora=True)
    shutil.copy(models.folder() / "smollm2-135m-instruct.q8_0.gguf", folder / "base.gguf")
    with running_hub(TOML.format(file=folder / "base.gguf"), AIHUB_CACHE_BYTES="1000000") as hub:
        yield hub


def ask(hub: Hub, model: str, about: str = "Count from one to twenty in words.") -> Reply:
    return Client(hub.base_url, hub.key).post(
        "/chat/completions",
        model=model,
        messages=[{"role": "user", "content": about}],
        temperature=0,
        max_tokens=12,
    )


def text(reply: Reply) -> str:
    assert reply.status == 200, reply.body
    return str(reply.json["choices"][0]["message"]["content"])


def publish(hub: Hub, folder: Path) -> None:
    """Two tuned models, as a trainer would."""
    sockets = settings.load({"AIHUB_HOME": str(hub.home)}, hub.home).sockets
    with psycopg.connect(f"postgresql://aihub@/aihub?host={sockets}") as connection:
        connection.execute(JOB)
        for number in (1, 2):
            values = {"name": f"ft:base:{number}", "path": str(folder / f"v{number}")}
            connection.execute(MODEL, values)


def point(hub: Hub, number: int) -> None:
    body = json.dumps({"target": f"ft:base:{number}"}).encode()
    reply = Client(hub.base_url, hub.key).send("PUT", ALIAS, body)
    assert reply.status == 200, reply.body


def test_an_alias_that_flips_never_gets_the_other_versions_answer(hub: Hub, folder: Path) -> None:
    """Over two gateways, while four callers ask all the time; each reply names its version."""
    publish(hub, folder)
    right = {}
    for number in (1, 2):
        until(lambda name=f"ft:base:{number}": ask(hub, name, "Hi.").status == 200)  # type: ignore[misc]
        reply = ask(hub, f"ft:base:{number}")
        right[reply.json["system_fingerprint"]] = text(reply)
    assert len(right) == len(set(right.values())) == 2
    point(hub, 1)
    stop = False
    seen: list[tuple[str, str, str]] = []

    def call() -> None:
        while not stop:
            reply = ask(hub, "law")
            how = reply.headers["x-aihub-cache"]
            seen.append((reply.json["system_fingerprint"], text(reply), how))

    with ThreadPoolExecutor(4) as callers:
        calling = [callers.submit(call) for _ in range(4)]
        for flip in range(FLIPS):
            point(hub, 2 - flip % 2)
            wanted = len(seen) + 8
            until(lambda wanted=wanted: len(seen) >= wanted)  # type: ignore[misc]
        stop = True
        for one in calling:
            one.result()
    assert {fingerprint for fingerprint, _, _ in seen} == set(right)
    assert all(right[fingerprint] == said for fingerprint, said, _ in seen)
    assert sum(how == "hit" for _, _, how in seen) > len(seen) // 2


def until(there: Any) -> None:
    deadline = time.monotonic() + 60
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_other_files_under_the_same_name_are_another_model(hub: Hub, folder: Path) -> None:
    about = "Name three colours."
    assert ask(hub, "base", about).headers["x-aihub-cache"] == "miss"
    assert ask(hub, "base", about).headers["x-aihub-cache"] == "hit"
    admin = Client(hub.base_url, hub.key)
    order = json.dumps({"model": "base", "wait": True}).encode()
    assert admin.send("POST", "//api/v1/models/unload", order).status == 200
    changed = folder / "changed.gguf"
    shutil.copy(folder / "base.gguf", changed)
    with changed.open("r+b") as file:
        file.seek(-4096, 2)
        file.write(bytes(4096))
    changed.replace(folder / "base.gguf")
    until(lambda: ask(hub, "base", about).headers.get("x-aihub-cache") == "miss")
