"""CPU time and memory of other processes, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

NANOSECOND = 1e-9


def seconds(pids: Iterable[int]) -> float:
    """CPU seconds used so far, all threads, the scheduler's nanosecond count."""
    total = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(thread.read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return total * NANOSECOND


def resident(pids: Iterable[int]) -> int:
    """Bytes of resident memory."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE")


class Meter:
    """CPU seconds of named groups of processes since the meter was made."""

    def __init__(self, parts: Mapping[str, list[int]]) -> None:
        self._parts = parts
        self._before = {name: seconds(pids) for name, pids in parts.items()}

    def read(self) -> dict[str, float]:
        return {name: seconds(pids) - self._before[name] for name, pids in self._parts.items()}
