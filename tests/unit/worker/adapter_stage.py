"""Adapters on an engine that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from shared.wire.task import Adapter
from worker import adapter_lease
from worker.adapters import Adapters
from worker.adapting import Adapting

A, B, C = (Adapter(f"{name}@1", name) for name in "abc")


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def wall_ms(self) -> int:
        return int(self.time * 1000)


class Engine:
    """Loads when `go` is set; `faults` are what it says of an adapter."""

    def __init__(self) -> None:
        self.has: list[str] = []
        self.calls: list[str] = []
        self.faults: dict[str, Exception] = {}
        self.go = asyncio.Event()
        self.go.set()

    async def load_adapter(self, name: str, path: str) -> None:
        self.calls.append(f"load {name}")
        await self.go.wait()
        if name in self.faults:
            raise self.faults[name]
        self.has.append(name)

    async def unload_adapter(self, name: str) -> None:
        self.calls.append(f"unload {name}")
        self.has.remove(name)


class Successor(Engine):
    may_double = staticmethod(lambda: False)

    async def load_adapters(self, paths: Mapping[str, str]) -> dict[str, Exception]:
        self.calls.append(f"load {sorted(paths)}")
        await self.go.wait()
        self.has += [name for name in paths if name not in self.faults]
        return {name: self.faults[name] for name in paths if name in self.faults}

    async def single(self) -> None:
        return None


class Bytes:
    """So many `free`, and 10 for each adapter."""

    def __init__(self) -> None:
        self.room = 1000
        self.booked = 0
        self.doubled = 0
        self.two = True

    def book(self, total: int) -> int:
        if total > self.room:
            return total - self.room
        self.booked = total
        return 0

    def double(self) -> bool:
        self.doubled += self.two
        return self.two

    def single(self) -> None:
        self.doubled -= 1

    def end(self) -> None:
        return None


class Stage:
    def __init__(
        self,
        engine: Engine,
        bound: int = 2,
        listed: tuple[Adapter, ...] = (),
        *,
        started: bool = True,
    ) -> None:
        self.engine = engine
        self.bytes = Bytes()
        self.clock = Clock()
        self.tasks: set[asyncio.Task[None]] = set()
        adapting = Adapting(bound, listed, Path("/none"), counted=True)
        self.adapters = Adapters(
            engine,  # type: ignore[arg-type]
            adapting,
            self.bytes,  # type: ignore[arg-type]
            self.spawn,
            self.clock,
        )
        if started:
            self.adapters.began()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def lease(self, adapter: Adapter) -> adapter_lease.Lease:
        async with asyncio.timeout(5):
            return self.adapters.take(adapter) or await self.adapters.wait(adapter)

    async def settled(self) -> None:
        while self.tasks:
            await asyncio.gather(*self.tasks)
