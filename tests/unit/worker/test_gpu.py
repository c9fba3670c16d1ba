"""The real nvidia-ml-py on the fake library."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.fakes.nvml.card import GIB, FakeNvml
from worker.device import DeviceFault
from worker.gpu import Card, Memory, Process, count, line

NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, LOST = 3, 4, 13, 15
STRANGER = 2**22 + 1
"""No pid of Linux is so high."""


@pytest.fixture
def card(nvml_here: FakeNvml) -> Iterator[Card]:
    card = Card(0)
    yield card
    card.close()


def test_description(nvml_here: FakeNvml) -> None:
    assert count() == 2
    card = Card(1)
    told = card.describe()
    card.close()
    assert (told.index, told.name, told.pci) == (1, "NVIDIA Fake 16", "00000000:02:00.0")
    assert told.uuid == "GPU-00000000-0000-0000-0000-000000000001"
    assert (told.driver, told.cuda, told.mig) == ("580.95.05", "13.0", False)


def test_no_such_card(nvml_here: FakeNvml) -> None:
    with pytest.raises(DeviceFault, match="GPU 5: Invalid Argument"):
        Card(5)


def test_sample(nvml_here: FakeNvml, card: Card) -> None:
    nvml_here.card().set(
        reserved=300 << 20, base=100 << 20, power_mw=71_250, celsius=64, busy=97, memory_busy=55
    )
    nvml_here.card().hold(os.getpid(), 3 * GIB)
    sample = card.sample()
    used = 3 * GIB + (100 << 20)
    assert sample.memory == Memory(16 * GIB, used, 16 * GIB - used - (300 << 20), 300 << 20)
    assert sample.processes == (Process(os.getpid(), 3 * GIB),)
    assert (sample.power_mw, sample.power_limit_mw, sample.celsius) == (71_250, 300_000, 64)
    assert (sample.busy_percent, sample.memory_busy_percent) == (97, 55)
    assert sample.energy_mj == 0


def test_a_sample_is_few_calls(nvml_here: FakeNvml, card: Card) -> None:
    nvml_here.card().hold(os.getpid(), GIB)
    before = nvml_here.calls
    card.sample()
    assert nvml_here.calls - before == 9


def test_energy_is_a_counter(nvml_here: FakeNvml, card: Card) -> None:
    start = time.monotonic_ns() - 10 * 10**9
    nvml_here.card().set(power_mw=70_000, energy_mj=5_000_000, energy_since_ns=start)
    energy = card.sample().energy_mj
    spent = (time.monotonic_ns() - start) / 1e9
    assert energy is not None
    assert 5_000_000 + 700_000 <= energy <= 5_000_000 + 70_000 * spent


def test_who_computes_and_draws_counts_once(nvml_here: FakeNvml, card: Card) -> None:
    nvml_here.card().hold(STRANGER, GIB, kind="both", stays=True)
    nvml_here.card().hold(STRANGER + 1, 2 * GIB, kind="graphics", stays=True)
    assert card.processes() == (Process(STRANGER, GIB), Process(STRANGER + 1, 2 * GIB))
    assert card.memory().used == 3 * GIB


def test_bytes_that_are_not_available(nvml_here: FakeNvml, card: Card) -> None:
    nvml_here.card().hold(os.getpid(), GIB, kind="both", hidden=True)
    assert card.processes() == (Process(os.getpid(), None),)
    assert card.memory().used == GIB


def test_an_old_driver_has_older_calls(nvml_here: FakeNvml, card: Card) -> None:
    nvml_here.card().set(reserved=GIB)
    nvml_here.card().hold(os.getpid(), GIB)
    for call in (
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetGraphicsRunningProcesses_v3",
    ):
        nvml_here.fail(call, NOT_FOUND)
    assert card.memory() == Memory(16 * GIB, 2 * GIB, 14 * GIB, 0)
    assert card.processes() == (Process(os.getpid(), GIB),)
    nvml_here.fail("nvmlDeviceGetComputeRunningProcesses_v2", NOT_FOUND)
    assert card.processes() is None


def test_what_a_card_does_not_have_is_none(nvml_here: FakeNvml, card: Card) -> None:
    for call in (
        "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetEnforcedPowerLimit",
        "nvmlDeviceGetTotalEnergyConsumption",
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetMigMode",
    ):
        nvml_here.fail(call, NOT_SUPPORTED)
    sample = card.sample()
    assert sample.busy_percent is sample.memory_busy_percent is None
    assert sample.power_mw is sample.power_limit_mw is sample.energy_mj is sample.celsius is None
    assert card.describe().mig is False


def test_memory_that_is_not_told_is_a_fault(nvml_here: FakeNvml, card: Card) -> None:
    nvml_here.fail("nvmlDeviceGetMemoryInfo_v2", NOT_SUPPORTED)
    nvml_here.fail("nvmlDeviceGetMemoryInfo", NOT_SUPPORTED)
    with pytest.raises(DeviceFault) as caught:
        card.sample()
    assert caught.value.trouble == "not_supported"
    assert str(caught.value) == "GPU 0, its memory: Not Supported"


@pytest.mark.parametrize(
    ("code", "trouble"),
    [
        (4, "no_permission"),
        (9, "no_driver"),
        (15, "lost"),
        (16, "lost"),
        (18, "driver_mismatch"),
        (999, "failed"),
        (4711, "failed"),
    ],
)
def test_every_refusal_has_its_trouble(nvml_here: FakeNvml, code: int, trouble: str) -> None:
    nvml_here.fail("nvmlInitWithFlags", code)
    with pytest.raises(DeviceFault) as caught:
        Card(0)
    assert caught.value.trouble == trouble
    assert caught.value.mend
    nvml_here.mend()
    Card(0).close()


def test_a_card_that_is_lost_may_come_back(nvml_here: FakeNvml, card: Card) -> None:
    nvml_here.card().fail("nvmlDeviceGetMemoryInfo_v2", LOST, times=2)
    for _ in range(2):
        with pytest.raises(DeviceFault, match="GPU is lost") as caught:
            card.sample()
        assert caught.value.trouble == "lost"
    assert card.sample().memory.total == 16 * GIB


def test_lines_of_cards_in_trouble(nvml_here: FakeNvml) -> None:
    nvml_here.card(1).set(mig=1)
    nvml_here.card(1).fail("nvmlDeviceGetMemoryInfo_v2", NO_PERMISSION)
    nvml_here.card(0).fail("nvmlDeviceGetName", LOST)
    assert line(0).fault == "GPU 0: GPU is lost"
    split = line(1)
    assert split.fault is not None
    assert "MIG" in split.fault


def test_memory_of_the_dead_may_linger(nvml_here: FakeNvml, card: Card) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    nvml_here.card().hold(child.pid, GIB)
    assert card.processes() == (Process(child.pid, GIB),)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert card.processes() == (), "a zombie holds nothing"
    nvml_here.card().hold(child.pid, GIB, linger=60)
    child.communicate()
    assert card.processes() == (Process(child.pid, GIB),)
    assert card.memory().used == GIB
    nvml_here.card().free(child.pid)
    assert card.memory().used == 0
