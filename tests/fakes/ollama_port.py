"""Where the stand-in for `ollama serve` takes connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
from abc import ABC, abstractmethod

from tests.fakes.ollama_memory import Body
from tests.fakes.ollama_reply import Reply


class Port(ABC):
    """One of this machine; it may hang up and listen again."""

    def __init__(self) -> None:
        self.url = ""
        self._server: asyncio.Server | None = None
        self.connections: set[asyncio.Task[None]] = set()

    @abstractmethod
    async def answer(self, route: str, body: Body, reply: Reply) -> None:
        """`route` is method and path."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request; what runs for it ends with the connection."""
        connection = asyncio.current_task()
        assert connection is not None
        self.connections.add(connection)
        connection.add_done_callback(self.connections.discard)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._converse(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, path = head.split(" ", 2)[:2]
        length = next(
            (int(h[15:]) for h in head.lower().split("\r\n") if h.startswith("content-length")),
            0,
        )
        body = json.loads(await reader.readexactly(length) or b"{}")
        work = asyncio.create_task(self.answer(f"{method} {path}", body, Reply(writer)))
        gone = asyncio.create_task(reader.read())
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        for task in (work, gone):
            task.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)
        await writer.drain()

    async def listen(self) -> None:
        """At the same port each time."""
        port = int(self.url.rpartition(":")[2] or 0)
        self._server = await asyncio.start_server(self.handle, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def hang_up(self) -> None:
        """Nobody takes connections any more; those that are open stay."""
        if self._server is not None:
            self._server.close()

    async def closed(self) -> None:
        if self._server is not None:
            await self._server.wait_closed()
