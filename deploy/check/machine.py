"""Python, processor, memory, disk, GPU."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from deploy.check import Finding, fail, ok, warn
from deploy.main import python
from shared.settings import Settings

GB = 1e9
MEMORY_WANTED = 2 * GB
"""PostgreSQL, Valkey, gateway, worker and both embedded engines, with room for the caches."""
DISK_WANTED = 2 * GB
GPU_TIMEOUT = 20.0
NO_DRIVER = 3
"""Exit status of worker.gpu without a driver."""


class Device(msgspec.Struct):
    """A line of worker.gpu."""

    name: str
    total: int
    used: int
    driver: str


def findings(settings: Settings) -> Iterator[Finding]:
    yield interpreter(sys.version_info[:3])
    yield cores(len(os.sched_getaffinity(0)))
    yield instructions(platform.machine(), Path("/proc/cpuinfo").read_text(), settings)
    yield memory(Path("/proc/meminfo").read_text())
    yield disk(settings)
    yield from gpu()


def interpreter(version: tuple[int, ...]) -> Finding:
    text = ".".join(map(str, version))
    if version < (3, 11):
        return fail("python", text, "make clean, then make install with PYTHON= a Python >= 3.11")
    return ok("python", text)


def cores(count: int) -> Finding:
    if count < 2:
        return warn(
            "cores", f"{count}: engine and gateway share it", "give the machine two or more"
        )
    return ok("cores", str(count))


def instructions(machine: str, cpuinfo: str, settings: Settings) -> Finding:
    """xllamacpp is built for AVX2 on x86-64."""
    if machine not in ("x86_64", "AMD64"):
        return ok("processor", machine)
    flags = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "")
    if "avx2" in flags.split():
        return ok("processor", f"{machine} with AVX2")
    mend = 'serve models from another machine: [models.NAME] with engine = "openai" and its url'
    if any(model.engine == "llamacpp" for model in settings.models.values()):
        return fail("processor", f"{machine} without AVX2, which llamacpp needs", mend)
    return warn("processor", f"{machine} without AVX2: no llamacpp here", mend)


def memory(meminfo: str) -> Finding:
    line = next(line for line in meminfo.splitlines() if line.startswith("MemAvailable:"))
    available = int(line.split()[1]) * 1024
    found = f"{available / GB:.1f} GB available"
    if available < MEMORY_WANTED:
        mend = f"free some: the embedded default wants {MEMORY_WANTED / GB:.0f} GB"
        return warn("memory", found, mend)
    return ok("memory", found)


def disk(settings: Settings) -> Finding:
    folder = settings.folder
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    found = f"{free / GB:.1f} GB free at {folder}"
    if free < DISK_WANTED:
        return warn("disk", found, "free some, or set AIHUB_HOME to a larger disk")
    return ok("disk", found)


def gpu() -> Iterator[Finding]:
    """Asked of a process of its own: NVML belongs to the worker."""
    try:
        asked = subprocess.run(
            python("worker.gpu"), capture_output=True, text=True, timeout=GPU_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        yield warn(
            "gpu", f"NVML did not answer in {GPU_TIMEOUT:.0f} s", "look at nvidia-smi, dmesg"
        )
        return
    if asked.returncode == NO_DRIVER:
        yield ok("gpu", f"none in use, models run on the CPU (NVML: {asked.stderr.strip()})")
    elif asked.returncode != 0:
        last = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
        yield warn("gpu", f"NVML could not be asked: {last}", "make install")
    elif not asked.stdout:
        yield ok("gpu", "NVML answers and lists no device, models run on the CPU")
    for line in asked.stdout.splitlines():
        device = msgspec.json.decode(line, type=Device)
        free = (device.total - device.used) / GB
        yield ok(
            "gpu",
            f"{device.name}, {device.total / GB:.1f} GB, {free:.1f} GB free,"
            f" driver {device.driver}",
        )
