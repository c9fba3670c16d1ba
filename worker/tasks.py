"""Work under way beside the event loop's own: kept until it ends, and heard of when it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from shared import log
from worker.resident import last_words

logger = log.get("loop")


class Tasks:
    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    async def cancel(self) -> None:
        """Returns when all of it has ended."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("an effect broke", error=last_words(error), exc_info=error)
