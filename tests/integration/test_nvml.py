"""Other processes on the fake cards: the doctor, and engines that take memory by themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from deploy.check import Finding, State, machine
from tests.fakes.nvml.card import GIB, LIBRARY, FakeNvml
from worker.gpu import FAULT, NO_DRIVER, Line

Start = Callable[..., subprocess.Popen[str]]
MISMATCH, LOST = 18, 15


def listed(nvml: FakeNvml) -> list[Line]:
    """What `python -m worker.gpu` prints in a process of its own."""
    asked = subprocess.run(
        [sys.executable, "-m", "worker.gpu"],
        env=os.environ | nvml.environment,
        capture_output=True,
        timeout=60,
        check=True,
    )
    return [msgspec.json.decode(line, type=Line) for line in asked.stdout.splitlines()]


@pytest.fixture
def start(nvml: FakeNvml) -> Iterator[Start]:
    """Starts a process that holds bytes of a card; returns when it does, or has ended."""
    started: list[subprocess.Popen[str]] = []

    def begin(held: int, linger: float = 0.0, device: int = 0) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.nvml.vram", *map(str, (held, linger, device))],
            env=os.environ | nvml.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate(timeout=20)


@pytest.fixture
def seen(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """The fake cards, seen by the processes that this one starts."""
    for name, value in nvml.environment.items():
        monkeypatch.setenv(name, value)
    return nvml


def gpu_findings() -> list[Finding]:
    return list(machine.gpu())


def test_processes_take_memory_by_themselves(nvml: FakeNvml, start: Start) -> None:
    first = start(3 * GIB)
    start(2 * GIB, 0.0, 1)
    assert [card.used for card in listed(nvml)] == [3 * GIB, 2 * GIB]
    first.kill()
    first.wait(20)
    assert [card.used for card in listed(nvml)] == [0, 2 * GIB]


def test_memory_of_a_killed_process_lingers(nvml: FakeNvml, start: Start) -> None:
    process = start(3 * GIB, 60)
    process.kill()
    process.wait(20)
    assert listed(nvml)[0].used == 3 * GIB
    brief = start(GIB, 0.001)
    brief.kill()
    brief.wait(20)
    for _ in range(2):
        used = listed(nvml)[0].used
    assert used == 3 * GIB


def test_no_two_processes_get_the_same_bytes(nvml: FakeNvml, start: Start) -> None:
    start(5 * GIB, 0.0, 1)
    second = start(4 * GIB, 0.0, 1)
    assert second.wait(20) == 1
    assert listed(nvml)[1].used == 5 * GIB


def test_the_doctor_shows_every_card(seen: FakeNvml) -> None:
    seen.card(0).set(base=GIB)
    found = gpu_findings()
    assert [finding.state for finding in found] == [State.OK, State.OK]
    assert found[0].found == ("NVIDIA Fake 16, 17.2 GB, 16.1 GB free, driver 580.95.05, CUDA 13.0")


def test_the_doctor_says_what_is_wrong_with_a_card(seen: FakeNvml) -> None:
    seen.card(0).fail("nvmlDeviceGetMemoryInfo_v2", LOST)
    seen.card(1).set(mig=1)
    lost, split = gpu_findings()
    assert (lost.state, split.state) == (State.WARN, State.WARN)
    assert lost.found == "GPU 0, its memory: GPU is lost"
    assert "reboot" in lost.mend
    assert split.found == "GPU 1 is split into MIG instances, which the hub does not use"
    assert "--multi-instance-gpu=0" in split.mend


def test_the_doctor_on_a_driver_that_does_not_match(seen: FakeNvml) -> None:
    seen.fail("nvmlInitWithFlags", MISMATCH)
    (found,) = gpu_findings()
    assert found.state is State.WARN
    assert found.found == "NVML: RM has detected an NVML/RM version mismatch."
    assert found.mend == "the driver was updated under the running kernel module: reboot"
    ended = subprocess.run(
        [sys.executable, "-m", "worker.gpu"], capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == FAULT


def test_the_doctor_without_a_driver(seen: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NVML", "")
    monkeypatch.setattr(machine, "PCI_DEVICES", Path("/nonexistent"))
    (found,) = gpu_findings()
    assert found == Finding(
        State.OK, "gpu", "none in use, models run on the CPU (NVML: Driver Not Loaded)"
    )


def test_the_doctor_without_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / LIBRARY).write_text("this is no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    asked = subprocess.run(
        [sys.executable, "-m", "worker.gpu"], capture_output=True, timeout=60, check=False
    )
    assert asked.returncode == NO_DRIVER
    assert asked.stderr == b"NVML: Shared Library Not Found\n"


def test_the_doctor_sees_a_card_that_has_no_driver(tmp_path: Path) -> None:
    for address, vendor, kind in (
        ("0000:01:00.0", "0x10de", "0x030000"),
        ("0000:01:00.1", "0x10de", "0x040300"),
        ("0000:02:00.0", "0x8086", "0x030000"),
        ("0000:03:00.0", "0x10de", "0x030200"),
    ):
        (tmp_path / address).mkdir()
        (tmp_path / address / "vendor").write_text(f"{vendor}\n")
        (tmp_path / address / "class").write_text(f"{kind}\n")
    cards = machine.nvidia_cards(tmp_path)
    assert cards == ["0000:01:00.0", "0000:03:00.0"]
    finding = machine.no_driver("NVML: Shared Library Not Found", cards)
    assert finding.state is State.WARN
    assert machine.no_driver("NVML: Shared Library Not Found", []).state is State.OK


def test_aihub_doctor_prints_the_card(seen: FakeNvml, home: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "deploy.main", "doctor"],
        env=os.environ | {"AIHUB_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    shown = "NVIDIA Fake 16, 17.2 GB, 17.2 GB free, driver 580.95.05, CUDA 13.0"
    assert ["ok", "gpu", shown] in [line.split(maxsplit=2) for line in told.stdout.splitlines()]
