"""The whole hub as a user runs it, `aihub up`, with its processes in reach."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from shared.lifeline import die_with_parent
from tests import models
from tests.server import temporary_home

START_WITHIN = 90.0
STOP_WITHIN = 8.0
PARTS = {
    "gateway": "gateway.main",
    "worker": "worker.main",
    "valkey": "valkey-server",
    "postgres": "bin/postgres",
    "engine": "worker.engines.llamacpp_child",
    "vllm": "worker.engines.vllm_child",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, parents first."""
    found: list[int] = []
    front = [pid]
    while front:
        below: list[int] = []
        for parent in front:
            for children in Path(f"/proc/{parent}/task").glob("*/children"):
                try:
                    below += [int(child) for child in children.read_text().split()]
                except (FileNotFoundError, ProcessLookupError):
                    continue
        found += below
        front = below
    return found


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


class Hub:
    """A running `aihub up`."""

    chat_model = models.CHAT
    embedding_model = models.EMBEDDING

    def __init__(self, home: Path, environ: Mapping[str, str]) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.base_url = f"{self.url}/v1"
        self.log = home / "up.log"
        models.lend(home)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIHUB_")},
            "AIHUB_HOME": str(home),
            "AIHUB_PORT": str(self.port),
            # What is tested is mostly what engines and queues make of a request.
            "AIHUB_CACHE_BYTES": "0",
            **environ,
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deploy.main", "up"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )
        self._wait_ready()
        self.key = (home / "admin.key").read_text().strip()

    @property
    def supervisor(self) -> int:
        return self._process.pid

    def pids(self, part: str) -> list[int]:
        """The processes of one part; for the gateway its master comes first."""
        wanted = PARTS[part]
        return [pid for pid in descendants(self.supervisor) if wanted in command_line(pid)]

    def kill(self, part: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Signals the first process of a part; returns its pid."""
        pid = self.pids(part)[0]
        os.kill(pid, number)
        return pid

    def kill_pid(self, pid: int) -> None:
        """Kills one process, which may have gone with another."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def get(self, path: str) -> tuple[int, dict[str, object]]:
        """GET of a path, with the key: status and JSON."""
        request = urllib.request.Request(
            self.url + path, headers={"Authorization": f"Bearer {getattr(self, 'key', '')}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def ready(self) -> bool:
        try:
            return self.get("/health/ready")[0] == 200
        except (OSError, ValueError):
            return False

    def wait_ready(self, within: float = START_WITHIN) -> float:
        """Seconds until /health/ready answers 200; fails the test after `within`."""
        began = time.monotonic()
        while not self.ready():
            assert time.monotonic() - began < within, self.log.read_text()
            time.sleep(0.02)
        return time.monotonic() - began

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Ends the hub; returns the seconds until its last process was gone."""
        everything = [self.supervisor, *descendants(self.supervisor)]
        began = time.monotonic()
        if self._process.poll() is None:
            self._process.send_signal(number)
        self._process.wait(STOP_WITHIN)
        while left := [pid for pid in everything if alive(pid)]:
            assert time.monotonic() - began < STOP_WITHIN, [command_line(pid) for pid in left]
            time.sleep(0.01)
        return time.monotonic() - began

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_WITHIN
        while not self.ready():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)


@contextmanager
def running_hub(toml: str = "", **environ: str) -> Iterator[Hub]:
    """A hub in an empty home; `toml` is its aihub.toml, `environ` its AIHUB_ variables."""
    with temporary_home() as home:
        if toml:
            (home / "aihub.toml").write_text(toml)
        hub = Hub(home, environ)
        try:
            yield hub
        finally:
            hub.stop()
