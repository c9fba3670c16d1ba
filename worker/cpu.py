"""The RAM of this machine, or of this container, as a Device; engines are measured by PSS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from typing import NamedTuple

from worker import memory
from worker.device import Kind, Lingering, Measured, patience
from worker.memory import Held

LARGEST_SHARE = 50
"""A process is looked at anew after this many times what the last look took: 2 % of a core."""
MOVED = 0.01
"""Share of its RSS by which a process must have moved to be looked at earlier."""


class Look(NamedTuple):
    held: Held
    resident: int
    fresh_until: float
    """Monotonic seconds."""


class CpuDevice:
    """A worker.device.Device.

    `budget`: bytes that engines may have, where that is less than what there is. `used` is what
    anyone uses of the whole memory, also of what lies outside the budget; `free` respects both.

    The kernel walks every page to find a PSS, 12 ms per GB of small pages. Processes of many GB
    are therefore looked at every few seconds, and at once when their RSS has moved by 1 %.
    """

    kind: Kind = "cpu"

    def __init__(self, name: str = "cpu", budget: int | None = None) -> None:
        self.name = name
        total = memory.ram().total
        self.total = total if budget is None else min(total, budget)
        self._looks: dict[int, Look] = {}

    async def used(self) -> int:
        now = await asyncio.to_thread(memory.ram)
        return now.total - now.available

    async def free(self) -> int:
        return min(self.total, (await asyncio.to_thread(memory.ram)).available)

    async def measure(
        self,
        holders: Mapping[str, Collection[int]],
        known: Mapping[str, int] | None = None,
        foreign: int = 0,
    ) -> dict[str, Measured]:
        return await asyncio.to_thread(self._measure, holders)

    def _measure(self, holders: Mapping[str, Collection[int]]) -> dict[str, Measured]:
        trees = memory.trees([pid for pids in holders.values() for pid in pids])
        living = set().union(*trees.values())
        looks = {pid: self._look(pid) for pid in living}
        gone = [pid for pid in self._looks if pid not in looks and not memory.resident(pid)]
        self._looks = {pid: look for pid, look in self._looks.items() if pid not in gone} | looks
        measured = {}
        for name, pids in holders.items():
            held = [looks[pid].held for pid in set().union(*(trees[pid] for pid in pids))]
            exact = all(one.exact for one in held)
            bytes = sum(one.bytes for one in held)
            cached = sum(one.cached for one in held)
            measured[name] = Measured(bytes, "pss" if exact else "rss", cached)
        return measured

    def _look(self, pid: int) -> Look:
        resident = memory.resident(pid)
        last = self._looks.get(pid)
        began = time.monotonic()
        if last is not None and began < last.fresh_until:
            moved = abs(resident - last.resident)
            if moved <= MOVED * last.resident:
                return last
        spent = time.thread_time()
        held = memory.of_process(pid)
        spent = time.thread_time() - spent
        return Look(held, resident, began + LARGEST_SHARE * spent)

    async def released(
        self, pids: Collection[int], timeout: float, below: int | None = None
    ) -> Lingering:
        """A dead process holds no memory, so this waits for the last of them to be dead."""
        return await patience(lambda: lingering(pids), timeout)


def lingering(pids: Collection[int]) -> Lingering:
    living = set().union(*memory.trees(pids).values())
    held = memory.held(living)
    return Lingering(held.bytes, tuple(sorted(living)), "pss" if held.exact else "rss")
