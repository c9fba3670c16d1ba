"""A job of fine-tuning while everything around it is killed. Its children only pretend to train."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.client import Client
from tests.fakes.training_child import STEPS
from tests.hub import Hub, command_line, descendants, running_hub
from tests.server import temporary_home
from tests.trainers import CHILD, prepare, stand_in

WITHIN = 90.0
PART = "trainer.main"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with temporary_home() as place:
        toml = prepare(place, stand_in(place, 0.2))
        with running_hub(toml) as hub:
            (place / "datasets").rename(hub.home / "datasets")
            yield hub


class Job:
    def __init__(self, hub: Hub) -> None:
        self.client = Client(hub.base_url, hub.key)
        fields = {"name": "mine", "base_model": "tiny", "dataset_path": "a.jsonl"}
        reply = self.client.send("POST", "//api/v1/training/jobs", json.dumps(fields).encode())
        assert reply.status == 200, reply.body
        self.path = f"/fine_tuning/jobs/{reply.json['id']}"

    def until(self, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """503 while the database is away is no answer yet."""
        deadline = time.monotonic() + WITHIN
        while True:
            reply = self.client.send("GET", self.path)
            found: dict[str, Any] = reply.json
            assert reply.status in (200, 503), reply.body
            if reply.status == 200 and reached(found):
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.05)

    def step(self, number: int) -> None:
        self.until(lambda job: job["aihub"]["step"] >= number)

    def steps(self) -> list[int]:
        listed = self.client.send("GET", f"{self.path}/events?limit=1000").json["data"]
        return [e["data"]["step"] for e in reversed(listed) if e["type"] == "metrics"]


def processes(hub: Hub, words: str) -> list[int]:
    return [pid for pid in descendants(hub.supervisor) if words in command_line(pid)]


def test_whatever_is_killed_the_job_goes_on(hub: Hub, note: Callable[[str], None]) -> None:
    job = Job(hub)
    began = time.monotonic()
    for step, words in ((3, CHILD), (7, PART), (12, "valkey-server"), (17, "bin/postgres")):
        job.step(step)
        os.kill(processes(hub, words)[0], signal.SIGKILL)
    ended = job.until(lambda job: job["finished_at"] is not None)
    assert ended["status"] == "succeeded", ended
    assert job.steps() == list(range(1, STEPS + 1))
    note(f"4 kills, {STEPS} steps of 0.2 s in {time.monotonic() - began:.1f} s")
    assert not processes(hub, CHILD)
    listed = job.client.send("GET", "/models").json["data"]
    assert ended["fine_tuned_model"] in [model["id"] for model in listed]


def test_with_the_hub_the_child_ends_too(hub: Hub) -> None:
    job = Job(hub)
    job.step(2)
    (child,) = processes(hub, CHILD)
    hub.stop()
    assert not Path(f"/proc/{child}").exists()
