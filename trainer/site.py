"""What kind of device this is: runs on one kind are as fast, and take the same memory."""

from __future__ import annotations

import os
import platform
from pathlib import Path

CPUS = Path("/proc/cpuinfo")
CARDS = Path("/proc/driver/nvidia/gpus")


def kind(device: str, cpus: Path = CPUS, cards: Path = CARDS) -> str:
    """The product's name where the machine tells it, else `device` itself."""
    if device == "cpu":
        name = field(cpus, "model name") or platform.machine()
        return f"{name} x {os.cpu_count() or 1}"
    number = device.partition(":")[2] or "0"
    found = sorted(cards.glob("*/information"))
    if number.isdigit() and int(number) < len(found):
        return field(found[int(number)], "Model") or device
    return device


def field(file: Path, name: str) -> str | None:
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return None
    told = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in told if key.strip() == name), None)
