"""An engine on a fake card: a real child process whose VRAM stands in the fake's file."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress

from shared.errors import EngineFailed
from shared.wire.event import Usage, Vectors
from worker.engines.base import Generation, Sink, Unadaptable


class VramEngine(Unadaptable):
    """Takes `takes` bytes of card 0 when it starts; asleep it keeps `asleep`, and `ram` of RAM.

    Bytes stay on the card for `linger` seconds after its process has died.
    """

    can_sleep = True

    def __init__(self, takes: int, asleep: int = 0, ram: int = 0, linger: float = 0.0) -> None:
        self.takes = takes
        self.starts = 0
        self._asleep, self._ram, self._linger = asleep, ram, linger
        self._child: asyncio.subprocess.Process | None = None
        self._sleeps = False
        self._over = asyncio.Event()
        self._over.set()
        self._watching: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        return not self._over.is_set() and not self._sleeps

    def pids(self) -> list[int]:
        return [] if self._child is None else [self._child.pid]

    async def start(self) -> None:
        self.starts += 1
        self._child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.fakes.nvml.vram", str(self.takes), str(self._linger)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert self._child.stdout is not None
        if await self._child.stdout.readline() != b"holding\n":
            _, words = await self._child.communicate()
            raise EngineFailed(f"CUDA error: out of memory: {words.decode().strip()}")
        self._over.clear()
        self._watching = asyncio.create_task(self._watch(self._child))

    async def _watch(self, child: asyncio.subprocess.Process) -> None:
        await child.wait()
        self._over.set()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pids()[0], signal.SIGKILL)

    async def stop(self) -> None:
        if self._child is not None:
            self.kill()
            await self._child.wait()
        if self._watching is not None:
            await self._watching
        self._child, self._watching, self._sleeps = None, None, False
        self._over.set()

    async def ended(self) -> None:
        await self._over.wait()

    async def sleep(self) -> None:
        await self._hold(self._asleep, self._ram)
        self._sleeps = True

    async def wake(self) -> None:
        await self._hold(self.takes, 0)
        self._sleeps = False

    async def _hold(self, vram: int, ram: int) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(b"%d %d\n" % (vram, ram))
        if not await self._child.stdout.readline():
            raise EngineFailed("CUDA error: out of memory")

    async def generate(self, generation: Generation, sink: Sink) -> Usage:
        raise EngineFailed("it only holds memory")

    async def embed(self, inputs: list[str] | list[list[int]], dimensions: int | None) -> Vectors:
        raise EngineFailed("it only holds memory")
