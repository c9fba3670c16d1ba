from __future__ import annotations

import itertools
import os
import subprocess
import sys

from worker import memory
from worker.cpu import CpuDevice
from worker.device import Measured

MB = 1 << 20
HOLD = "x = bytearray(b'1' * ({} << 20)); print('held', flush=True); input()"


def run(script: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


def start(megabytes: int) -> subprocess.Popen[bytes]:
    process = run(HOLD.format(megabytes))
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


async def test_totals() -> None:
    device = CpuDevice()
    assert (device.name, device.kind) == ("cpu", "cpu")
    assert device.total == memory.ram().total
    assert 0 < await device.used() < device.total
    small = CpuDevice("cpu:small", budget=64 * MB)
    assert small.total == 64 * MB
    assert await small.free() <= 64 * MB
    assert CpuDevice(budget=1 << 60).total == device.total


async def test_each_holder_is_measured_by_itself() -> None:
    small, large = start(8), start(72)
    held = await CpuDevice().measure({"a": [small.pid], "b": [large.pid], "remote": []})
    assert held["a"].basis == held["b"].basis == "pss"
    assert held["a"].bytes is not None
    assert held["b"].bytes is not None
    difference = held["b"].bytes - held["a"].bytes
    assert abs(difference - 64 * MB) < 0.05 * 64 * MB
    assert held["remote"] == Measured(0, "pss")
    for process in (small, large):
        process.communicate(b"\n", timeout=20)


GROW = """
kept = []
while size := input():
    kept.append(bytearray(b'1' * (int(size) << 20)))
    print('held', flush=True)
"""


async def test_growth_is_seen_at_once() -> None:
    process = run(GROW)
    assert process.stdin is not None
    assert process.stdout is not None
    device = CpuDevice()
    sizes = []
    for _ in range(3):
        process.stdin.write(b"64\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"held\n"
        found = (await device.measure({"a": [process.pid]}))["a"].bytes
        assert found is not None
        sizes.append(found)
        assert (await device.measure({"a": [process.pid]}))["a"].bytes == found
    process.communicate(b"\n", timeout=20)
    for before, after in itertools.pairwise(sizes):
        assert abs(after - before - 64 * MB) < 0.05 * 64 * MB


async def test_released_waits_for_the_last_to_die() -> None:
    process = start(32)
    device = CpuDevice()
    living = await device.released([process.pid], 0.0)
    assert living.pids == (process.pid,)
    assert living.bytes > 32 * MB
    os.killpg(process.pid, 9)
    gone = await device.released([process.pid], 20.0)
    assert (gone.bytes, gone.pids) == (0, ())
    process.communicate(timeout=20)
