"""An NVIDIA GPU as a Device, by NVML.

Whose pids NVML lists: outside of containers, everybody's, as /proc has them. Inside a container
(a pid namespace) recent drivers list the processes that the caller can see, by the numbers it sees;
older ones list host pids, which nothing in the container can map to its own. So in a namespace the
list counts only while every pid in it is one of ours to see. Where it does not count, and where the
driver lists processes without bytes (WSL2), a holder's bytes are the remainder: what is in use less
what was in use before it and what the others are known to hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Set
from pathlib import Path
from typing import NamedTuple

from worker import memory
from worker.device import DeviceFault, Kind, Lingering, Measured, patience
from worker.gpu import Card, Description, Process, Sample, split
from worker.memory import PROC

HOST_NAMESPACE = 0xEFFFFFFC
"""The inode of the first pid namespace, the same in every Linux."""


class View(NamedTuple):
    """The card at one moment."""

    used: int
    base: int
    """What others are known to use: at least the least that was ever in use."""
    listed: Mapping[int, int | None] | None
    """Bytes by pid; None when the pids are not ours to compare."""


class CudaDevice:
    """A worker.device.Device; get it from `open_cuda`."""

    kind: Kind = "cuda"

    def __init__(self, card: Card, description: Description, *, contained: bool) -> None:
        self._card = card
        self._contained = contained
        memory_now = card.memory()
        self._base = memory_now.used
        self.name = f"cuda:{card.index}"
        self.total = memory_now.total - memory_now.reserved
        self.description = description
        """Give engines its uuid as CUDA_VISIBLE_DEVICES."""

    def close(self) -> None:
        self._card.close()

    async def used(self) -> int:
        return (await asyncio.to_thread(self._card.memory)).used

    async def free(self) -> int:
        return (await asyncio.to_thread(self._card.memory)).free

    async def sample(self) -> Sample:
        """Everything NVML says of the card now."""
        return await asyncio.to_thread(self._card.sample)

    async def measure(
        self,
        holders: Mapping[str, Collection[int]],
        known: Mapping[str, int] | None = None,
        foreign: int = 0,
    ) -> dict[str, Measured]:
        return await asyncio.to_thread(self._measure, holders, known or {}, foreign)

    def _measure(
        self, holders: Mapping[str, Collection[int]], known: Mapping[str, int], foreign: int
    ) -> dict[str, Measured]:
        families = family(holders)
        processes = self._card.processes()
        used = self._card.memory().used
        self._base = min(self._base, used)
        listed = self._comparable(processes, frozenset().union(*families.values()))
        return attribute(View(used, max(self._base, foreign), listed), families, known)

    def _comparable(
        self, processes: tuple[Process, ...] | None, own: Set[int]
    ) -> dict[int, int | None] | None:
        if processes is None:
            return None
        listed = {process.pid: process.bytes for process in processes}
        strange = (pid for pid in listed.keys() - own if not (PROC / str(pid)).exists())
        return None if self._contained and any(True for _ in strange) else listed

    async def released(
        self, pids: Collection[int], timeout: float, below: int | None = None
    ) -> Lingering:
        """See Device; pass every process of the engine, as they were before it was stopped.

        In a container `below` counts as well as the list, where dead processes may be missing.
        """
        own = frozenset(pids)
        return await patience(lambda: self._lingering(own, below), timeout)

    def _lingering(self, own: Set[int], below: int | None) -> Lingering:
        listed = self._comparable(self._card.processes(), own)
        over = None if below is None else max(0, self._card.memory().used - below)
        if listed is None:
            living = tuple(sorted(set().union(*memory.trees(own).values())))
            return Lingering(over or 0, living, "unknown" if over is None else "remainder")
        shown = {pid: listed[pid] for pid in sorted(own & listed.keys())}
        held = sum(each or 0 for each in shown.values())
        if self._contained or None in shown.values():
            held = max(held, over or 0)
        return Lingering(held, tuple(shown), "process")


def attribute(
    view: View, families: Mapping[str, Set[int]], known: Mapping[str, int]
) -> dict[str, Measured]:
    """Bytes per holder: from the list, else the remainder where just one holder is missing."""
    measured: dict[str, Measured] = {}
    for name, pids in families.items():
        held = None if view.listed is None and pids else shown(view.listed or {}, pids)
        measured[name] = Measured(held, "unknown" if held is None else "process")
    missing = [name for name, found in measured.items() if found.bytes is None]
    wanted = [name for name in missing if name not in known] or missing
    if len(wanted) == 1:
        own = frozenset().union(*families.values())
        strangers = [pid for pid in view.listed or {} if pid not in own]
        foreign = sum((view.listed or {})[pid] or 0 for pid in strangers)
        others = sum(found.bytes or 0 for found in measured.values())
        others += sum(known[name] for name in missing if name != wanted[0])
        rest = view.used - max(view.base, foreign) - others
        measured[wanted[0]] = Measured(max(0, rest), "remainder")
    return measured


def shown(listed: Mapping[int, int | None], pids: Set[int]) -> int | None:
    """The sum of what the list says of these; None when it names one without its bytes."""
    held = [listed[pid] for pid in pids if pid in listed]
    return None if None in held else sum(each or 0 for each in held)


def family(holders: Mapping[str, Collection[int]]) -> dict[str, frozenset[int]]:
    """Each holder's pids, dead or alive, with everything below them."""
    roots = [pid for pids in holders.values() for pid in pids]
    trees = memory.trees(roots) if roots else {}
    return {
        name: frozenset(pids).union(*(trees[pid] for pid in pids)) for name, pids in holders.items()
    }


def contained(proc: Path = PROC) -> bool:
    """Whether this process lives in a pid namespace of its own; True where it cannot tell."""
    try:
        return (proc / "self" / "ns" / "pid").stat().st_ino != HOST_NAMESPACE
    except OSError:
        return True


async def open_cuda(index: int) -> CudaDevice:
    """GPU `index` of this machine, by NVML's order; raises DeviceFault."""
    return await asyncio.to_thread(find, index)


def find(index: int) -> CudaDevice:
    card = Card(index)
    try:
        description = card.describe()
        if description.mig:
            raise split(index)
        return CudaDevice(card, description, contained=contained())
    except DeviceFault:
        card.close()
        raise
