"""A stand-in for `ollama serve` in a thread of its own, for tests that are not async."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from shared.settings import Settings
from tests.fakes.ollama import OllamaDouble, ollama_double
from tests.fakes.ollama_memory import Served


class Apart:
    """One in a thread and event loop of its own; `disk` may be changed while it runs."""

    def __init__(self, double: OllamaDouble, disk: dict[str, Served]) -> None:
        self.double = double
        self.disk = disk
        self.url = double.url
        self.memory = double.memory
        self._loop = asyncio.get_running_loop()

    def go_away(self) -> None:
        """As a machine that is switched off: nobody takes connections, nothing is held."""
        self._run(self._vanish())

    def come_back(self) -> None:
        self._run(self.double.listen())

    async def _vanish(self) -> None:
        self.double.hang_up()
        await self.memory.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(60)


@contextmanager
def ollama_apart(disk: dict[str, Served], settings: Settings) -> Iterator[Apart]:
    begun, over = threading.Event(), threading.Event()
    found: list[Apart] = []

    async def serve() -> None:
        async with ollama_double(disk, settings) as double:
            found.append(Apart(double, disk))
            begun.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert begun.wait(10)
        yield found[0]
    finally:
        over.set()
        thread.join()
