"""Who uses an adapter, and who waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from shared.errors import QueueFull
from worker.engines.base import EngineLost

MOST_WAITING = 256
"""Requests of one model that may wait for adapters."""


class Lender(Protocol):
    """Who has the adapters."""

    @property
    def run(self) -> int:
        """Changes when the engine ends."""

    def give_back(self, name: str) -> None:
        """One use less."""


class Lease:
    """A loaded adapter that stays until the lease is released, or its engine ends."""

    def __init__(self, lender: Lender, name: str, run: int) -> None:
        self._lender = lender
        self.name = name
        self._run = run
        self._released = False

    @property
    def valid(self) -> bool:
        """False once the engine that had the adapter has ended."""
        return not self._released and self._run == self._lender.run

    def release(self) -> None:
        if self.valid:
            self._released = True
            self._lender.give_back(self.name)


class Line:
    """Those who wait for one adapter."""

    def __init__(self, path: str, since: float) -> None:
        self.path = path
        self.since = since
        self.leases: list[asyncio.Future[Lease]] = []


class Lines:
    """Those who wait, by adapter."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}

    @property
    def since(self) -> dict[str, float]:
        """When the first of each line came."""
        return {name: line.since for name, line in self._lines.items()}

    def path(self, name: str) -> str:
        return self._lines[name].path

    def stand(self, name: str, path: str, now: float) -> asyncio.Future[Lease]:
        """Raises QueueFull."""
        if sum(len(line.leases) for line in self._lines.values()) >= MOST_WAITING:
            raise QueueFull(f"{MOST_WAITING} requests wait for adapters already.", retry_after=5)
        waiting: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(name, Line(path, now)).leases.append(waiting)
        return waiting

    def leave(self, name: str, waiting: asyncio.Future[Lease]) -> None:
        """Somebody does not wait any more."""
        if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
            waiting.result().release()
        line = self._lines.get(name)
        if line is not None and waiting in line.leases:
            line.leases.remove(waiting)
            if not line.leases:
                del self._lines[name]

    def admit(self, name: str, lease: Callable[[], Lease]) -> None:
        """Those who waited for it have it."""
        for waiting in self._end(name):
            waiting.set_result(lease())

    def refuse(self, name: str, error: Exception) -> None:
        for waiting in self._end(name):
            waiting.set_exception(error)

    def end(self) -> None:
        """The engine has ended."""
        for name in list(self._lines):
            self.refuse(name, EngineLost("the engine has ended"))

    def _end(self, name: str) -> list[asyncio.Future[Lease]]:
        line = self._lines.pop(name, None)
        return [one for one in line.leases if not one.done()] if line is not None else []
