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
FAULT = 4
"""Its exit status when the driver refuses; it says why and how to mend it on two lines."""
TOO_MUCH = 2
"""Exit status of worker.pinned when the pinned models do not fit."""
PCI_DEVICES = Path("/sys/bus/pci/devices")


class Device(msgspec.Struct):
    """A line of worker.gpu."""

    name: str = ""
    total: int = 0
    used: int = 0
    driver: str = ""
    cuda: str | None = None
    fault: str | None = None
    mend: str = ""


def findings(settings: Settings) -> Iterator[Finding]:
    yield interpreter(sys.version_info[:3])
    yield cores(len(os.sched_getaffinity(0)))
    yield instructions(platform.machine(), Path("/proc/cpuinfo").read_text(), settings)
    yield memory(Path("/proc/meminfo").read_text())
    yield disk(settings)
    yield from gpu()
    if any(m.pin and m.lane == settings.lane for m in settings.models.values()):
        yield pinned()


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
    said = asked.stderr.strip().splitlines() or ["no reason given"]
    if asked.returncode == NO_DRIVER:
        yield no_driver(said[-1], nvidia_cards(PCI_DEVICES))
    elif asked.returncode == FAULT:
        yield warn("gpu", said[0], said[-1])
    elif asked.returncode != 0:
        yield warn("gpu", f"NVML could not be asked: {said[-1]}", "make install")
    elif not asked.stdout:
        yield ok("gpu", "NVML answers and lists no device, models run on the CPU")
    for line in asked.stdout.splitlines():
        yield device(msgspec.json.decode(line, type=Device))


def no_driver(reason: str, cards: list[str]) -> Finding:
    if not cards:
        return ok("gpu", f"none in use, models run on the CPU ({reason})")
    mend = "install the NVIDIA driver; in a container, start it with the NVIDIA runtime"
    return warn("gpu", f"NVIDIA at {', '.join(cards)} cannot be used ({reason})", mend)


def nvidia_cards(devices: Path) -> list[str]:
    """PCI addresses of the graphics and compute cards, whether they have a driver or not."""
    found = sorted(devices.iterdir()) if devices.is_dir() else []
    return [
        card.name
        for card in found
        if (card / "vendor").read_text().strip() == "0x10de"
        and (card / "class").read_text().startswith(("0x0300", "0x0302"))
    ]


def pinned() -> Finding:
    """Whether the devices have room for what is pinned; asked of a process of its own, too."""
    try:
        asked = subprocess.run(
            python("worker.pinned"),
            capture_output=True,
            text=True,
            timeout=GPU_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return warn("pinned", f"no answer in {GPU_TIMEOUT:.0f} s", "aihub models estimate NAME")
    if asked.returncode == 0:
        return ok("pinned", f"by estimate they fit: {asked.stdout.strip()}")
    said = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
    if asked.returncode == TOO_MUCH:
        return fail("pinned", said, "unpin some, or give them less context or parallel requests")
    return warn("pinned", said, "aihub models estimate NAME")


def device(found: Device) -> Finding:
    if found.fault is not None:
        return warn("gpu", found.fault, found.mend)
    free = (found.total - found.used) / GB
    cuda = f", CUDA {found.cuda}" if found.cuda else ""
    return ok(
        "gpu",
        f"{found.name}, {found.total / GB:.1f} GB, {free:.1f} GB free, driver {found.driver}{cuda}",
    )
