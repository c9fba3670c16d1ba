"""The supervisor with real processes: order, restarts, and nothing left behind."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SERVE = "ready(); signal.pause()\n"
ORDERLY = """
def stop(number, frame):
    with open(folder / "stops", "a") as file:
        file.write(name + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
"""
STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
WITH_CHILD = """
child = subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"],
                         start_new_session=%s)
(folder / "grandchild").write_text(str(child.pid))
"""
STOP_BOUND = 5.0

Stages = list[list[tuple[str, str, float]]]
Start = Callable[[Stages], "Host"]


class Host:
    """A running supervisor, and what it says."""

    def __init__(self, folder: Path, stages: Stages) -> None:
        self.folder = folder
        program = Path(__file__).with_name("supervised.py")
        self.process = subprocess.Popen(
            [sys.executable, str(program), str(folder), json.dumps(stages)],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []

    def until(self, text: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} was not said: {self.said}")

    def pid(self, name: str) -> int:
        return int((self.folder / f"{name}.pid").read_text())

    def finish(self) -> int:
        assert self.process.stdout is not None
        self.said += self.process.stdout
        return self.process.wait(10)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.wait(10)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    hosts: list[Host] = []

    def begin(stages: Stages) -> Host:
        hosts.append(Host(tmp_path, stages))
        return hosts[-1]

    yield begin
    for host in hosts:
        host.close()


def gone(pid: int, within: float = STOP_BOUND) -> bool:
    """Whether the process ends in time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], within)[0])
    finally:
        os.close(descriptor)


def test_stops_in_reverse_order_and_leaves_nothing(start: Start) -> None:
    host = start([[("base", ORDERLY + SERVE, 10)], [("top", ORDERLY + SERVE, 10)]])
    host.until("up")
    pids = [host.pid("base"), host.pid("top")]
    began = time.monotonic()
    host.process.send_signal(signal.SIGINT)
    assert host.finish() == 0
    assert time.monotonic() - began < STOP_BOUND
    assert (host.folder / "stops").read_text().split() == ["top", "base"]
    assert all(gone(pid, 0) for pid in pids)


def test_kills_a_child_that_does_not_stop(start: Start) -> None:
    host = start([[("base", ORDERLY + SERVE, 10)], [("top", STUBBORN + SERVE, 10)]])
    host.until("up")
    pids = [host.pid("base"), host.pid("top")]
    began = time.monotonic()
    host.process.terminate()
    assert host.finish() == 0
    assert time.monotonic() - began < STOP_BOUND
    assert any("top" in line and "killed" in line for line in host.said)
    assert (host.folder / "stops").read_text().split() == ["base"]
    assert all(gone(pid, 0) for pid in pids)


def test_a_second_signal_kills_at_once(start: Start) -> None:
    blocked = 'signal.signal(signal.SIGTERM, lambda n, f: (folder / "asked").touch())\n'
    loop = "ready()\nwhile True: signal.pause()\n"
    host = start([[("top", blocked + loop, 10)]])
    host.until("up")
    began = time.monotonic()
    host.process.send_signal(signal.SIGINT)
    while not (host.folder / "asked").exists():
        assert host.process.poll() is None
    host.process.send_signal(signal.SIGINT)
    assert host.finish() == 0
    assert time.monotonic() - began < 2


def test_restarts_a_child_that_dies(start: Start) -> None:
    host = start([[("base", SERVE, 10)], [("top", SERVE, 10)]])
    host.until("up")
    base, top = host.pid("base"), host.pid("top")
    os.kill(top, signal.SIGKILL)
    assert "was ended by SIGKILL; starts again in 0.2 s" in host.until("top")
    host.until("ready")
    assert host.pid("top") != top
    assert host.pid("base") == base


@pytest.mark.parametrize("own_session", [False, True])
def test_what_a_dead_child_left_is_ended(start: Start, own_session: bool) -> None:
    host = start([[("top", WITH_CHILD % own_session + SERVE, 10)]])
    host.until("up")
    grandchild = int((host.folder / "grandchild").read_text())
    os.kill(host.pid("top"), signal.SIGKILL)
    assert gone(grandchild)


@pytest.mark.parametrize("own_session", [False, True])
def test_what_a_stopped_child_left_is_ended(start: Start, own_session: bool) -> None:
    host = start([[("top", WITH_CHILD % own_session + ORDERLY + SERVE, 10)]])
    host.until("up")
    host.process.terminate()
    assert host.finish() == 0
    assert gone(int((host.folder / "grandchild").read_text()), 0)


def test_kill_9_of_the_supervisor_ends_the_children(start: Start) -> None:
    host = start([[("base", SERVE, 10)], [("top", SERVE, 10)]])
    host.until("up")
    host.process.kill()
    assert gone(host.pid("base"))
    assert gone(host.pid("top"))


def test_a_child_that_is_never_ready_ends_the_start(start: Start) -> None:
    program = 'print("no table lamp", flush=True); signal.pause()\n'
    host = start([[("base", SERVE, 10)], [("top", program, 0.5)]])
    assert host.finish() == 1
    said = "".join(host.said)
    assert "top was not ready within 0.5 s: top.pid is not there" in said
    assert "no table lamp" in said
    assert gone(host.pid("base"), 0)


def test_a_child_that_keeps_dying_ends_the_start(start: Start) -> None:
    host = start([[("top", 'print("no table lamp", flush=True); sys.exit(3)\n', 10)]])
    assert host.finish() == 1
    assert "top exited with status 3" in "".join(host.said)
    assert "no table lamp" in "".join(host.said)


def test_a_signal_during_the_start_stops_what_runs(start: Start) -> None:
    waiting = 'print("here", flush=True); (folder / "began").touch(); signal.pause()\n'
    host = start([[("base", SERVE, 10)], [("top", waiting, 60)]])
    host.until("ready")
    host.process.terminate()
    assert host.finish() == 0
    assert "interrupted" in "".join(host.said)
    assert gone(host.pid("base"), 0)
