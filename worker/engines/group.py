"""The processes of one process group, as Linux lists them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
ENDED = frozenset("ZX")
"""States of a process that has given everything back and only waits to be noticed."""


def members(group: int) -> list[int]:
    """The living processes of `group`, the leader included."""
    return [pid for pid, state, of in processes() if of == group and state not in ENDED]


def processes() -> Iterator[tuple[int, str, int]]:
    """Every process as (pid, state, group)."""
    for entry in PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            # The name in brackets may hold anything, so fields are counted behind it.
            state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        yield int(entry.name), state, int(group)


async def gone(group: int) -> None:
    """Return when no process of `group` lives any more."""
    while pids := members(group):
        await asyncio.gather(*map(ended, pids))


async def ended(pid: int) -> None:
    """Return when the process, a child of anyone, has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
