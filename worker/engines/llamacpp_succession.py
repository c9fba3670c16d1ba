"""The servers of one model, one after another: llama.cpp takes adapters only at its start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from shared.errors import EngineFailed
from shared.wire.node import LoadProgress
from worker.engines.base import EngineLost
from worker.engines.llamacpp_server import LlamaServer

Adapters = Mapping[str, Path]


class Succession:
    """One server answers; those before it only end what they began.

    A switch starts the successor beside its predecessor where `beside` allows it: no request
    waits or fails. Otherwise new requests wait until the running ones ended and the successor
    is ready.
    """

    def __init__(self, make: Callable[[Adapters], LlamaServer]) -> None:
        self.current = make({})
        self._make = make
        self._coming: LlamaServer | None = None
        self._leaving: dict[LlamaServer, asyncio.Task[None]] = {}
        self._open = asyncio.Event()
        self._open.set()
        self._switched = asyncio.Event()
        """Replaced with every switch, so that who waits for the end of a server looks again."""
        self._lock = asyncio.Lock()
        self._stopped = False

    @property
    def alive(self) -> bool:
        return self.current.alive or not self._open.is_set()

    def pids(self) -> list[int]:
        servers = {self.current, *self._leaving}
        if self._coming is not None:
            servers.add(self._coming)
        return [server.pid for server in servers if server.pid]

    def progress(self) -> LoadProgress | None:
        """Of the server that is being started."""
        return (self._coming or self.current).progress()

    async def start(self, adapters: Adapters) -> None:
        """Raises EngineFailed with the child's last words."""
        async with self._lock:
            self._stopped = False
            if self.current.alive:
                return
            await self.current.stop()
            self._follow(self._make(adapters))
            await self.current.start()

    async def stop(self) -> None:
        self._stopped = True
        leaving = list(self._leaving)
        coming = [self._coming] if self._coming is not None else []
        await asyncio.gather(*(s.stop() for s in (self.current, *coming, *leaving)))
        await asyncio.gather(*self._leaving.values())

    async def ended(self) -> None:
        """Returns as soon as the current server, whichever it is then, has ended."""
        while True:
            await self._open.wait()
            server = self.current
            ending = asyncio.ensure_future(server.ended())
            switched = asyncio.ensure_future(self._switched.wait())
            try:
                await asyncio.wait({ending, switched}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                ending.cancel()
                switched.cancel()
            if self._open.is_set() and server is self.current:
                return

    @asynccontextmanager
    async def use(self) -> AsyncIterator[LlamaServer]:
        """The current server, which stays until the block ends."""
        while not self._open.is_set():
            await self._open.wait()
        server = self.current
        with server.used():
            yield server

    async def switch(self, adapters: Adapters, beside: Callable[[], bool]) -> None:
        """Let a server with these adapters follow; raises EngineFailed, and all is as before.

        A model that is not running gets them with its next start. Raises EngineLost when the
        model is stopped meanwhile.
        """
        async with self._lock:
            if not self.current.alive:
                return
            try:
                if beside():
                    await self._start_beside(adapters)
                else:
                    await self._start_behind(adapters)
            except EngineFailed as error:
                if self._stopped:
                    raise EngineLost("the engine was stopped") from error
                raise

    async def single(self) -> None:
        """Returns when those before the current one have ended."""
        while self._leaving:
            await asyncio.wait(list(self._leaving.values()))

    async def _start_beside(self, adapters: Adapters) -> None:
        coming = self._coming = self._make(adapters)
        try:
            await coming.start()
        finally:
            self._coming = None
        if self._stopped:
            await coming.stop()
            raise EngineLost("the engine was stopped")
        before = self.current
        self._follow(coming)
        self._leaving[before] = asyncio.create_task(self._retire(before))

    async def _start_behind(self, adapters: Adapters) -> None:
        before = self.current
        self._open.clear()
        try:
            await before.idle()
            if self._stopped:
                raise EngineLost("the engine was stopped")
            self._follow(self._make(adapters))
            await before.stop()
            try:
                await self.current.start()
            except EngineFailed:
                if not self._stopped:
                    self._follow(self._make(before.adapters))
                    await self.current.start()
                raise
        finally:
            self._open.set()

    async def _retire(self, server: LlamaServer) -> None:
        await server.idle()
        await server.stop()
        del self._leaving[server]

    def _follow(self, server: LlamaServer) -> None:
        self.current = server
        switched, self._switched = self._switched, asyncio.Event()
        switched.set()
