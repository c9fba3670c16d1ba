from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.nvml.card import GIB, FakeNvml
from worker.cuda import CudaDevice, View, attribute, contained, open_cuda
from worker.device import DeviceFault, Lingering, Measured
from worker.gpu import Card

STRANGER = 2**22 + 1
BOTH = {"a": frozenset({1}), "b": frozenset({2})}
HIDDEN = {1: None, 2: None}


def test_the_list_decides() -> None:
    view = View(used=12, base=1, listed={1: 5, 3: 1, 9: 4})
    families = {"a": frozenset({1, 3}), "b": frozenset({2}), "remote": frozenset[int]()}
    assert attribute(view, families, {}) == {
        "a": Measured(6, "process"),
        "b": Measured(0, "process"),
        "remote": Measured(0, "process"),
    }


def test_one_that_is_missing_gets_the_remainder() -> None:
    one = {"a": frozenset({1})}
    assert attribute(View(8, 1, None), one, {}) == {"a": Measured(7, "remainder")}
    assert attribute(View(8, 1, {1: None, 9: 3}), one, {}) == {"a": Measured(5, "remainder")}
    assert attribute(View(0, 1, None), one, {}) == {"a": Measured(0, "remainder")}
    mixed = attribute(View(12, 1, {1: None, 2: 4}), BOTH, {})
    assert mixed == {"a": Measured(7, "remainder"), "b": Measured(4, "process")}


def test_several_that_are_missing_need_what_is_known() -> None:
    unknown = Measured(None, "unknown")
    assert attribute(View(12, 1, None), BOTH, {}) == {"a": unknown, "b": unknown}
    assert attribute(View(12, 1, None), BOTH, {"a": 4, "b": 7}) == {"a": unknown, "b": unknown}
    newest = attribute(View(12, 1, HIDDEN), BOTH, {"a": 4})
    assert newest == {"a": unknown, "b": Measured(7, "remainder")}


def test_namespaces(tmp_path: Path) -> None:
    assert contained(tmp_path)
    (tmp_path / "self" / "ns").mkdir(parents=True)
    (tmp_path / "self" / "ns" / "pid").touch()
    assert contained(tmp_path)


@pytest.fixture
def device(nvml_here: FakeNvml) -> Iterator[CudaDevice]:
    """On the machine itself, whatever the tests run in."""
    card = Card(0)
    device = CudaDevice(card, card.describe(), contained=False)
    yield device
    device.close()


@pytest.fixture
def boxed(nvml_here: FakeNvml) -> Iterator[CudaDevice]:
    """In a container; another tenant's 2 GiB were there before."""
    nvml_here.card().hold(STRANGER + 100, 2 * GIB, stays=True)
    card = Card(0)
    device = CudaDevice(card, card.describe(), contained=True)
    yield device
    device.close()


@pytest.fixture
def engine() -> Iterator[subprocess.Popen[bytes]]:
    """A process and one child of it, in a session of their own; it prints the child's pid."""
    script = (
        "import subprocess, sys; c = subprocess.Popen([sys.executable, '-c', 'input()'],"
        " stdin=0); print(c.pid, flush=True); c.wait()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    yield process
    process.communicate(timeout=20)


def child_of(engine: subprocess.Popen[bytes]) -> int:
    assert engine.stdout is not None
    return int(engine.stdout.readline())


async def test_open(nvml_here: FakeNvml) -> None:
    nvml_here.card(1).set(reserved=GIB)
    device = await open_cuda(1)
    assert (device.name, device.kind, device.total) == ("cuda:1", "cuda", 7 * GIB)
    assert device.description.uuid.endswith("1")
    assert await device.used() == 0
    assert await device.free() == 7 * GIB
    assert (await device.sample()).celsius == 35
    device.close()


async def test_mig_is_refused(nvml_here: FakeNvml) -> None:
    nvml_here.card().set(mig=1)
    with pytest.raises(DeviceFault) as caught:
        await open_cuda(0)
    assert caught.value.trouble == "mig"


async def test_measure_counts_the_whole_tree(
    nvml_here: FakeNvml, device: CudaDevice, engine: subprocess.Popen[bytes]
) -> None:
    child = child_of(engine)
    card = nvml_here.card()
    card.hold(engine.pid, 1 * GIB)
    card.hold(child, 3 * GIB)
    card.hold(STRANGER, 2 * GIB, stays=True)
    measured = await device.measure({"chat": [engine.pid], "idle": [os.getpid()]})
    assert measured["chat"] == Measured(4 * GIB, "process")
    assert await device.used() == 6 * GIB


async def test_hidden_bytes_are_the_remainder(
    nvml_here: FakeNvml, device: CudaDevice, engine: subprocess.Popen[bytes]
) -> None:
    nvml_here.card().hold(STRANGER, GIB, stays=True)
    nvml_here.card().hold(engine.pid, 5 * GIB, hidden=True)
    measured = await device.measure({"chat": [engine.pid]})
    assert measured == {"chat": Measured(5 * GIB, "remainder")}


async def test_host_pids_in_a_container(nvml_here: FakeNvml, boxed: CudaDevice) -> None:
    own = os.getpid()
    assert await boxed.measure({}) == {}
    nvml_here.card().hold(STRANGER, 4 * GIB, stays=True)
    assert await boxed.measure({"chat": [own]}) == {"chat": Measured(4 * GIB, "remainder")}
    nvml_here.card().hold(STRANGER + 1, 3 * GIB, stays=True)
    pids = {"chat": [own], "code": [os.getppid()]}
    measured = await boxed.measure(pids, {"chat": 4 * GIB})
    assert measured["code"] == Measured(3 * GIB, "remainder")


async def test_a_driver_that_translates_pids(nvml_here: FakeNvml, boxed: CudaDevice) -> None:
    nvml_here.card().free(STRANGER + 100)
    nvml_here.card().hold(os.getpid(), 4 * GIB)
    assert await boxed.measure({"chat": [os.getpid()]}) == {"chat": Measured(4 * GIB, "process")}


async def test_released_waits_for_the_device(
    nvml_here: FakeNvml, device: CudaDevice, engine: subprocess.Popen[bytes]
) -> None:
    pids = [engine.pid, child_of(engine)]
    nvml_here.card().hold(pids[0], GIB)
    nvml_here.card().hold(pids[1], 3 * GIB, linger=0.3)
    held = await device.released(pids, 0.0)
    assert held == Lingering(4 * GIB, tuple(sorted(pids)), "process")
    os.killpg(engine.pid, 9)
    assert await device.released(pids, 0.05) == Lingering(3 * GIB, (pids[1],), "process")
    assert await device.released(pids, 20.0) == Lingering(0, (), "process")


async def test_released_of_hidden_bytes_looks_at_what_is_used(
    nvml_here: FakeNvml, device: CudaDevice
) -> None:
    nvml_here.card().hold(STRANGER, 3 * GIB, hidden=True, stays=True)
    lingering = await device.released([STRANGER], 0.0, below=GIB)
    assert lingering == Lingering(2 * GIB, (STRANGER,), "process")
    assert (await device.released([STRANGER], 0.0)).pids == (STRANGER,)


async def test_released_in_a_container(nvml_here: FakeNvml, boxed: CudaDevice) -> None:
    nvml_here.card().hold(STRANGER, 4 * GIB, stays=True)
    dead = [STRANGER + 7]
    lingering = await boxed.released(dead, 0.0, below=2 * GIB)
    assert lingering == Lingering(4 * GIB, (), "remainder")
    assert await boxed.released(dead, 0.0) == Lingering(0, (), "unknown")
    nvml_here.card().free(STRANGER)
    assert await boxed.released(dead, 0.0, below=2 * GIB) == Lingering(0, (), "remainder")


async def test_a_dead_process_missing_from_a_translated_list(
    nvml_here: FakeNvml, boxed: CudaDevice
) -> None:
    nvml_here.card().free(STRANGER + 100)
    nvml_here.card().set(base=3 * GIB)
    lingering = await boxed.released([STRANGER], 0.0, below=GIB)
    assert lingering == Lingering(2 * GIB, (), "process")


async def test_a_lost_card_is_a_fault_everywhere(nvml_here: FakeNvml, device: CudaDevice) -> None:
    nvml_here.card().fail("nvmlDeviceGetMemoryInfo_v2", 15)
    nvml_here.card().fail("nvmlDeviceGetComputeRunningProcesses_v3", 15)
    for asked in (device.used(), device.free(), device.measure({}), device.released([1], 1.0)):
        with pytest.raises(DeviceFault, match="GPU is lost"):
            await asked
