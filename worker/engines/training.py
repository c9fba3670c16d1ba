"""A trainer's child as an engine of its device: it has its bytes from start to stop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec.structs import replace

from shared import log
from shared.errors import UnsupportedValue
from shared.wire.event import Usage, Vectors
from shared.wire.lease import Wish
from worker.engines.base import Generation, Sink, Sleepless, Unadaptable, Unwatched

LEAVE_WITHIN = 120.0
"""Seconds a child has to end its step, write a checkpoint and go; then it is killed, and what it
did since its newest checkpoint is done again."""
LOOK = 0.1

logger = log.get("training")


class Training(Unwatched, Sleepless, Unadaptable):
    """`wish` is what its trainer said last; `tell` says that it is to go, and reads anew."""

    def __init__(self, wish: Wish, tell: Callable[[], Awaitable[None]]) -> None:
        self.wish = wish
        self.granted = False
        self.leaving = False
        self._tell = tell
        self._over = asyncio.Event()

    async def start(self) -> None:
        """There is nothing to start: the trainer does when it hears of it."""
        self._over.clear()
        self.granted = True

    async def stop(self) -> None:
        self.leaving = True
        began = asyncio.get_running_loop().time()
        # The trainer writes that it holds the room before it reads whether it still may.
        await self._tell()
        while self.pids() or (self.wish.holding and self.wish.wants):
            if asyncio.get_running_loop().time() - began > LEAVE_WITHIN:
                self.kill()
            await asyncio.sleep(LOOK)
            await self._tell()
        self.granted = self.leaving = False
        self._over.set()

    def kill(self) -> None:
        for pid in self.pids():
            logger.error("does not go, killed", job=self.wish.job, pid=pid)
            os.killpg(pid, signal.SIGKILL)

    def abandon(self) -> None:
        """Its trainer fell silent: nobody else would end its child."""
        self.kill()
        self.wish = replace(self.wish, wants=False, holding=False)

    @property
    def alive(self) -> bool:
        return self.granted

    async def ended(self) -> None:
        """A child that dies is followed by another one in the same room."""
        await self._over.wait()

    def pids(self) -> list[int]:
        pid = self.wish.pid
        return [pid] if pid and runs(pid, self.wish.job) else []

    async def generate(self, generation: Generation, sink: Sink) -> Usage:
        raise UnsupportedValue("A job of fine-tuning answers nothing.", param="model")

    async def embed(self, inputs: list[str] | list[list[int]], dimensions: int | None) -> Vectors:
        raise UnsupportedValue("A job of fine-tuning answers nothing.", param="model")


def runs(pid: int, job: str) -> bool:
    """Whether this process lives and is the child of that job: pids come again."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return job.encode() in words and " Z " not in state
