"""Work that nobody waits for, as much of it as there is room for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from shared import log

AT_ONCE = 64
"""Beyond that it is not done: an answer is not kept, a hit goes unchecked."""

logger = log.get("semantic")


class Background:
    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def run(self, work: Callable[[], Awaitable[object]]) -> bool:
        """Whether there is room for it."""
        if len(self._running) >= AT_ONCE:
            logger.warning("too much at once, left undone")
            return False
        task = asyncio.create_task(self._run(work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return True

    async def drain(self) -> None:
        """Waits for what runs."""
        await asyncio.gather(*self._running)

    async def stop(self) -> None:
        """Drops what runs."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _run(self, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except Exception:
            logger.exception("background work broke")
