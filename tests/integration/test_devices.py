"""`aihub up` with two devices: a worker each, real models that find their place and move."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from shared import keys
from shared.settings import DEFAULT_MODELS
from shared.wire.node import WorkerState, decode_state
from tests import models
from tests.caller import Caller
from tests.contract.client import Client
from tests.fakes.nvml.card import build, fake_nvml
from tests.hub import Hub, command_line, running_hub
from tests.server import temporary_home

FILE = DEFAULT_MODELS[Hub.chat_model].file
TOML = "\n".join(
    f"""
[models.{name}]
engine = "llamacpp"
file = "{FILE}"
context = 512
parallel = 2
threads = 1
preload = {str(name != "c").lower()}
"""
    for name in ("a", "b", "c")
)
WATTS = 70
ROOM = "400MiB"
"""For one of these models: each takes 286 MiB."""


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with running_hub(TOML, AIHUB_DEVICE="cpu:0,cpu:1", AIHUB_MEMORY=ROOM) as hub:
        yield hub


def workers(hub: Hub) -> dict[str, WorkerState]:
    """The last heartbeat of each device that beat lately."""
    with redis.Redis(unix_socket_path=str(hub.home / "run" / "valkey.sock")) as client:
        since = int(time.time() * 1000) - keys.WORKER_MS
        names = client.zrangebyscore(keys.WORKERS, since, "+inf")
        found = client.mget([keys.worker(name.decode()) for name in names]) if names else []
    states = [decode_state(data) for data in found if data is not None]
    return {state.device.name: state for state in states}


def places(hub: Hub) -> dict[str, list[str]]:
    """The models that each device has ready."""
    return {
        device: [name for name, model in state.models.items() if model.state == "ready"]
        for device, state in workers(hub).items()
    }


def both(hub: Hub) -> list[str]:
    """The models that are ready somewhere."""
    return [name for ready in places(hub).values() for name in ready]


def eventually(there: Callable[[], bool], hub: Hub, within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not there():
        assert time.monotonic() < deadline, (places(hub), hub.log.read_text())
        time.sleep(0.05)


def ask(hub: Hub, model: str) -> str:
    """What a model says to one request."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Count to three."}],
        "max_tokens": 8,
    }
    request = urllib.request.Request(
        f"{hub.base_url}/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {hub.key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        said: str = json.load(reply)["choices"][0]["message"]["content"]
    return said


def engines(hub: Hub) -> set[int]:
    return set(hub.pids("engine"))


def worker_pid(hub: Hub, device: str) -> int:
    return next(pid for pid in hub.pids("worker") if f"--device {device}" in command_line(pid))


def test_each_device_has_its_share_and_keeps_it(hub: Hub) -> None:
    eventually(lambda: places(hub) == {"cpu:0": ["a"], "cpu:1": ["b"]}, hub)
    before = engines(hub)
    with ThreadPoolExecutor(4) as clients:
        assert all(clients.map(lambda name: ask(hub, name), "abababab"))
    assert engines(hub) == before
    assert places(hub) == {"cpu:0": ["a"], "cpu:1": ["b"]}
    names = {path.stem for path in (hub.home / "log").iterdir()}
    assert names >= {"worker-cpu-0", "worker-cpu-1"}
    journals = {path.name for path in (hub.home / "decisions").iterdir()}
    assert journals >= {"cpu-cpu-0.jsonl", "cpu-cpu-1.jsonl"}


def test_a_third_model_takes_the_room_of_one(hub: Hub) -> None:
    assert ask(hub, "c")
    eventually(lambda: "c" in both(hub) and len(both(hub)) == 2, hub)
    assert ask(hub, "a")
    assert ask(hub, "b")


def test_models_of_a_worker_that_was_killed_move(hub: Hub) -> None:
    """Its supervisor stands still, so that nobody starts it again."""
    assert ask(hub, "a")
    eventually(lambda: "a" in both(hub) and len(both(hub)) == 2, hub)
    device = next(device for device, ready in places(hub).items() if "a" in ready)
    (other,) = set(places(hub)) - {device}
    dead = worker_pid(hub, device)
    os.kill(hub.supervisor, signal.SIGSTOP)
    try:
        hub.kill_pid(dead)
        with ThreadPoolExecutor(6) as clients:
            assert all(clients.map(lambda name: ask(hub, name), "aabaab"))
        assert set(places(hub)) == {other}
    finally:
        os.kill(hub.supervisor, signal.SIGCONT)
    eventually(lambda: set(places(hub)) == {device, other}, hub)
    assert worker_pid(hub, device) != dead
    hub.wait_ready()
    assert ask(hub, "a")
    assert ask(hub, "b")


def test_orders_to_one_worker_and_to_both(hub: Hub) -> None:
    """Each is told of the model on its worker, and leaves a row for it."""
    client = Client(hub.base_url, hub.key)

    def order(what: str, model: str, **fields: object) -> list[tuple[str, str, bool]]:
        body = json.dumps({"model": model, **fields}).encode()
        reply = client.send("POST", f"//api/v1/models/{what}", body)
        assert reply.status == 200, reply.body
        told = reply.json.get("data", [reply.json])
        return [(one["device"], one["state"], one["pinned"]) for one in told]

    for name in ("a", "b", "c"):
        order("unload", name, wait=True)
    assert both(hub) == []
    states = workers(hub)
    for device, state in states.items():
        found = order("load", "c", worker=state.name, wait=True)
        assert found == [(device, "ready", False)]
    assert places(hub) == {"cpu:0": ["c"], "cpu:1": ["c"]}
    assert sorted(order("pin", "c")) == [("cpu:0", "ready", True), ("cpu:1", "ready", True)]
    first = states["cpu:0"].name
    assert order("unpin", "c", worker=first) == [("cpu:0", "ready", False)]
    assert sorted(order("unload", "c", wait=True)) == [
        ("cpu:0", "absent", False),
        ("cpu:1", "absent", False),
    ]
    rows = client.send("GET", "//api/v1/admin/audit?resource_ids=c&limit=100").json["data"][::-1]
    done = [(row["type"], row["after"]["worker"] == first) for row in rows]
    assert sorted(done[:2]) == [("model.load", False), ("model.load", True)]
    assert sorted(done[2:4]) == [("model.pin", False), ("model.pin", True)]
    assert done[4] == ("model.unpin", True)
    assert sorted(done[5:]) == [("model.unload", False), ("model.unload", True)]
    unknown = client.send("POST", "//api/v1/models/load", b'{"model": "a", "worker": "wk-none"}')
    assert (unknown.status, unknown.error["param"]) == (400, "worker")


def test_more_pinned_than_the_devices_have_is_an_error_at_start() -> None:
    """Three of 286 MiB each on two devices of 400; the doctor says it, too."""
    with temporary_home() as home:
        (home / "aihub.toml").write_text(TOML.replace("threads = 1", "threads = 1\npin = true"))
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIHUB_")},
            "AIHUB_HOME": str(home),
            "AIHUB_PORT": "0",
            "AIHUB_DEVICE": "cpu:0,cpu:1",
            "AIHUB_MEMORY": ROOM,
        }
        models.lend(home)
        for command, status in (("doctor", 1), ("up", 1)):
            ran = subprocess.run(
                [sys.executable, "-m", "deploy.main", command],
                env=environ,
                capture_output=True,
                text=True,
                timeout=90,
                check=False,
            )
            said = ran.stdout + ran.stderr
            assert ran.returncode == status, said
            assert re.search(
                r"pinned models need 0\.\d\d GiB and cannot be divided among the devices, which"
                r" have cpu:0 0\.39 GiB, cpu:1 0\.39 GiB: a 0\.\d\d GiB, b 0",
                said,
            ), said


def test_a_card_and_the_ram(tmp_path: Path) -> None:
    """The card is a fake; llama.cpp stays in RAM, the card's books are kept all the same."""
    with fake_nvml(build(tmp_path), tmp_path / "nvml", 16 << 30) as nvml:
        nvml.card(0).set(power_mw=WATTS * 1000)
        nvml.card(0).run_energy()
        environ = {"AIHUB_DEVICE": "cpu,cuda:0", "AIHUB_MEMORY": ROOM}
        with running_hub(TOML, **nvml.environment, **environ) as hub:
            eventually(lambda: places(hub) == {"cpu": ["a"], "cuda:0": ["b"]}, hub)
            before = engines(hub)
            assert ask(hub, "a")
            assert ask(hub, "b")
            assert engines(hub) == before
            kinds = {state.device.name: state.device.kind for state in workers(hub).values()}
            assert kinds == {"cpu": "cpu", "cuda:0": "cuda"}
            used = {name: receipt(hub, name) for name in "ab"}
    assert (used["a"]["gpu_ms"], used["a"]["millijoules"]) == (0, None)
    assert 0 < used["b"]["gpu_ms"] <= used["b"]["total_ms"]
    assert used["b"]["millijoules"] == pytest.approx(used["b"]["gpu_ms"] * WATTS, rel=0.2, abs=500)


def receipt(hub: Hub, model: str) -> dict[str, Any]:
    """What one request used; it was alone."""
    caller = Caller(hub, hub.key)
    body = {"model": model, "messages": [{"role": "user", "content": "Go."}], "max_tokens": 40}
    return caller.receipt(caller.send("POST", "/v1/chat/completions", body).json["id"])
