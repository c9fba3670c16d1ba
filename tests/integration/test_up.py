"""`aihub up` as a newcomer uses it: what it prints can be pasted, and it goes without a trace."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from deploy import heartbeat
from shared import keys
from shared.settings import Settings
from shared.wire.node import decode_state
from tests.hub import Hub, running_hub
from tests.server import temporary_home

STOP_BOUND = 5.0
READY = re.compile(r" worker +ready after ")
CURL = f"""#!{sys.executable}
import sys, urllib.request
url, options = sys.argv[1], sys.argv[2:]
pairs = list(zip(options[::2], options[1::2]))
headers = dict(value.split(": ", 1) for name, value in pairs if name == "-H")
body = next(value for name, value in pairs if name == "-d").encode()
with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as reply:
    sys.stdout.write(reply.read().decode())
"""
"""As much of curl as the printed line uses, for machines without it."""


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    path = tmp_path / "curl"
    path.write_text(CURL)
    path.chmod(0o755)
    return tmp_path


def printed(hub: Hub) -> str:
    """Everything it said, once it has said all."""
    deadline = time.monotonic() + 10
    while "Ctrl-C stops everything" not in (text := hub.log.read_text()):
        assert time.monotonic() < deadline, text
    return text


def between(text: str, first: str, last: str) -> str:
    """The lines from the one that begins with `first` to the one that begins with `last`."""
    lines = text.splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith(first))
    end = next(n for n, line in enumerate(lines) if n > begin and line.startswith(last))
    return "\n".join(lines[begin : end + 1])


def paste(text: str, tools: Path) -> tuple[str, str]:
    """What the curl line and the Python snippet answer."""
    path = f"{tools}:{os.environ['PATH']}"
    ran = subprocess.run(
        ["sh", "-c", between(text, "curl ", "  -d")],
        env={**os.environ, "PATH": path},
        capture_output=True,
        check=True,
        timeout=60,
    )
    answer = json.loads(ran.stdout)["choices"][0]["message"]["content"]
    begin = text.index("From Python")
    snippet = between(text[begin:], "from ", "print(")
    ran = subprocess.run(
        [sys.executable, "-c", snippet], capture_output=True, check=True, timeout=60
    )
    return answer, ran.stdout.decode().strip()


def test_what_it_prints_can_be_pasted_at_the_first_start_and_later(tools: Path) -> None:
    with running_hub() as hub:
        text = printed(hub)
        assert hub.key in text
        assert all(paste(text, tools))
        assert hub.stop(signal.SIGINT) < STOP_BOUND
        assert not Settings(home=str(hub.home)).sockets.exists()
        (hub.home / "models").unlink()
        again = Hub(hub.home, {})
        try:
            text = printed(again)
            assert again.key == hub.key
            assert hub.key not in text
            assert all(paste(text, tools))
        finally:
            assert again.stop() < STOP_BOUND


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with running_hub() as running:
        yield running


def start(command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.main", command],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def refused(**environ: str) -> str:
    """Why a second start was refused."""
    ran = start("up", **environ)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1
    return ran.stderr


def test_one_supervisor_a_home(hub: Hub) -> None:
    why = refused(AIHUB_HOME=str(hub.home), AIHUB_PORT="0")
    assert f"another `aihub up` (process {hub.supervisor}) runs on {hub.home}" in why


def test_a_taken_port_is_named_before_anything_starts(hub: Hub) -> None:
    with temporary_home() as home:
        why = refused(AIHUB_HOME=str(home), AIHUB_PORT=str(hub.port))
        assert f"port {hub.port} is in use" in why and "AIHUB_PORT" in why
        assert [path.name for path in home.iterdir()] == ["up.lock"]


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("AIHUB_REDIS_URL", "redis://:hunter2@127.0.0.1:1"),
        ("AIHUB_DATABASE_URL", "postgresql://me:hunter2@127.0.0.1:1/hub"),
    ],
)
def test_a_server_that_does_not_answer_is_named_at_once(name: str, url: str) -> None:
    with temporary_home() as home:
        why = refused(**{"AIHUB_HOME": str(home), "AIHUB_PORT": "0", name: url})
        assert "127.0.0.1" in why and f"correct {name}" in why and "hunter2" not in why
        assert [path.name for path in home.iterdir()] == ["up.lock"]


def test_a_lane_without_models_is_named_at_once() -> None:
    with temporary_home() as home:
        for command in ("up", "worker"):
            ran = start(command, AIHUB_HOME=str(home), AIHUB_LANE="gpu")
            assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
            assert "no model is in lane 'gpu'. Lanes of the models: cpu." in ran.stderr
        assert list(home.iterdir()) == []


def test_a_worker_is_ready_when_it_says_so_itself(hub: Hub) -> None:
    settings = Settings(home=str(hub.home))
    assert (
        heartbeat.missing(settings, "cpu") == "it has not shown a sign of life"
    )  # of ours: it is not
    before = hub.kill("worker")
    deadline = time.monotonic() + 60
    while len(READY.findall(hub.log.read_text())) < 2:
        assert time.monotonic() < deadline, hub.log.read_text()
        time.sleep(0.02)
    (worker,) = hub.pids("worker")
    assert worker != before
    with redis.Redis.from_url(settings.redis) as client:
        names = client.zrange(keys.WORKERS, 0, -1)
        found = client.mget([keys.worker(name.decode()) for name in names])
    states = {s.pid: s.models for s in (decode_state(data) for data in found if data)}
    assert {report.state for report in states[worker].values()} == {"ready"}
    hub.wait_ready()


def test_logs_and_key_are_the_owners_alone(hub: Hub) -> None:
    private = [hub.home / "admin.key", *(hub.home / "log").iterdir()]
    assert {path.stat().st_mode & 0o077 for path in private} == {0}
    assert {path.stem for path in (hub.home / "log").iterdir()} >= {"gateway", "worker", "valkey"}


def test_kill_9_of_the_supervisor_leaves_nothing_and_the_next_start_works(hub: Hub) -> None:
    assert hub.stop(signal.SIGKILL) < STOP_BOUND
    (hub.home / "models").unlink()
    again = Hub(hub.home, {})
    assert again.key == hub.key
    assert again.stop() < STOP_BOUND
