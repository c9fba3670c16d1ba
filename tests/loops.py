"""A real loop around given engines, for tests that need no models of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.clock import SystemClock
from shared.footprint import Key
from worker import residency
from worker.cpu import CpuDevice
from worker.journal import Journal
from worker.ledger import Ledger
from worker.loop import Loop
from worker.report import Report
from worker.residency import Plan
from worker.resident import Resident

GIB = 1 << 30


def around(
    engines: Mapping[str, Any],
    folder: Path,
    places: int = 4,
    defaults: dict[str, float | int] | None = None,
    size: int = 0,
) -> Loop:
    """Engines that stay for ever; each is thought to take `size` bytes of a device of 1 GiB."""
    device = CpuDevice()
    ledger = Ledger("cpu", GIB)
    residents = {
        name: Resident(
            name,
            engine,
            device,
            ledger,
            size,
            None,
            Key("cpu", name, "openai", 0, places),
            defaults or {},
        )
        for name, engine in engines.items()
    }
    plan = Plan(size=size, load_seconds=0.1, places=places, keep_alive=-1)
    clock = SystemClock()
    state = residency.device(dict.fromkeys(engines, plan), GIB, now=clock.now())
    return Loop(residents, state, device, ledger, Journal(folder, "test", clock), None, clock)


def reported(loop: Loop) -> Report:
    """What such a loop's worker says of itself."""
    return Report(loop, Ledger("cpu", GIB), SystemClock())
