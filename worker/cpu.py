"""The RAM of this machine, or of this container, as a Device; engines are measured by PSS."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from worker import memory
from worker.device import Kind, Lingering, Measured, patience


class CpuDevice:
    """A worker.device.Device.

    `budget`: bytes that engines may have, where that is less than what there is. `used` is what
    anyone uses of the whole memory, also of what lies outside the budget; `free` respects both.
    """

    kind: Kind = "cpu"

    def __init__(self, name: str = "cpu", budget: int | None = None) -> None:
        self.name = name
        total = memory.ram().total
        self.total = total if budget is None else min(total, budget)

    async def used(self) -> int:
        now = await asyncio.to_thread(memory.ram)
        return now.total - now.available

    async def free(self) -> int:
        return min(self.total, (await asyncio.to_thread(memory.ram)).available)

    async def measure(
        self, holders: Mapping[str, Collection[int]], known: Mapping[str, int] | None = None
    ) -> dict[str, Measured]:
        return await asyncio.to_thread(measure, holders)

    async def released(
        self, pids: Collection[int], timeout: float, below: int | None = None
    ) -> Lingering:
        """A dead process holds no memory, so this waits for the last of them to be dead."""
        return await patience(lambda: lingering(pids), timeout)


def measure(holders: Mapping[str, Collection[int]]) -> dict[str, Measured]:
    trees = memory.trees([pid for pids in holders.values() for pid in pids])
    measured = {}
    for name, pids in holders.items():
        held = memory.held(set().union(*(trees[pid] for pid in pids)))
        measured[name] = Measured(held.bytes, "pss" if held.exact else "rss")
    return measured


def lingering(pids: Collection[int]) -> Lingering:
    living = set().union(*memory.trees(pids).values())
    held = memory.held(living)
    return Lingering(held.bytes, tuple(sorted(living)), "pss" if held.exact else "rss")
