"""Connections to an upstream that are kept for the next request, and those that are not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from shared.settings import Model
from shared.wire.event import Usage
from tests.integration.test_openai_engine import EVENTS, SAY, STREAM, chunked, read_request
from tests.unit.worker.engines.recorder import Recorder
from worker.engines import exchange, spare
from worker.engines.openai import OpenAi

WHOLE = STREAM + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(EVENTS, 37)
OPEN = WHOLE[: -len(b"0\r\n\r\n")]
"""Its last event is there, its end is not."""


class Server:
    """`answer` says what to write to the n-th request of the m-th connection; None: hang up."""

    def __init__(self, answer: Callable[[int, int], bytes | None]) -> None:
        self.connections = 0
        self.open = 0
        self.requests = 0
        self._answer = answer

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = self.connections
        self.connections += 1
        self.open += 1
        try:
            for number in range(1_000):
                await read_request(reader)
                self.requests += 1
                answer = self._answer(number, mine)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def closed(self) -> None:
        async with asyncio.timeout(5):
            while self.open:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


class Behind(Recorder):
    """Holds the engine back from the first piece on, as for a caller who reads slowly."""

    def text(self, text: str) -> None:
        super().text(text)
        assert self.source is not None
        self.source.pause_reading()


@asynccontextmanager
async def asked(server: Server) -> AsyncIterator[OpenAi]:
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    engine = OpenAi("m", Model(engine="openai", url=f"http://127.0.0.1:{port}/v1"))
    try:
        yield engine
        await engine.stop()
        await server.closed()
    finally:
        listening.close()


async def say(engine: OpenAi) -> None:
    sink = Recorder()
    async with asyncio.timeout(10):
        usage = await engine.generate(SAY, sink)
    assert (sink.content, sink.reasons, usage) == ("Zürich", ["stop"], Usage(9, 2))


async def one_connection_serves_all() -> None:
    server = Server(lambda *_: WHOLE)
    async with asked(server) as engine:
        for _ in range(5):
            await say(engine)
        assert (server.requests, server.connections) == (5, 1)
        await asyncio.gather(*(say(engine) for _ in range(4)))
        assert server.connections <= 4
        for _ in range(4):
            await say(engine)
        assert server.connections <= 4


async def test_one_connection_serves_one_request_after_another() -> None:
    await one_connection_serves_all()


def test_the_same_under_uvloop() -> None:
    uvloop.run(one_connection_serves_all())


async def one_that_was_held_back_is_read_again() -> None:
    """A caller who is behind at the end of a reply leaves no connection that hears nothing."""
    server = Server(lambda *_: WHOLE)
    async with asked(server) as engine:
        behind = Behind()
        async with asyncio.timeout(10):
            await engine.generate(SAY, behind)
        assert behind.content == "Zürich"
        await say(engine)
        assert (server.requests, server.connections) == (2, 1)


async def test_a_connection_that_was_held_back_serves_the_next_request() -> None:
    await one_that_was_held_back_is_read_again()


def test_the_same_held_back_under_uvloop() -> None:
    uvloop.run(one_that_was_held_back_is_read_again())


async def test_a_server_that_closes_is_not_asked_on_what_it_closed() -> None:
    said = WHOLE.replace(b"200 OK\r\n", b"200 OK\r\nConnection: close\r\n")
    server = Server(lambda *_: said)
    async with asked(server) as engine:
        for _ in range(3):
            await say(engine)
    assert server.connections == 3


async def test_a_request_that_meets_a_hang_up_is_sent_again() -> None:
    server = Server(lambda number, _: None if number else WHOLE)
    async with asked(server) as engine:
        for _ in range(3):
            await say(engine)
    assert (server.connections, server.requests) == (3, 5)


async def test_who_leaves_cuts_the_connection() -> None:
    server = Server(lambda *_: WHOLE[:200])
    async with asked(server) as engine:
        left = asyncio.create_task(say(engine))
        async with asyncio.timeout(5):
            while not server.requests:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        left.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await left
        await server.closed()


async def test_a_reply_that_does_not_end_keeps_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange, "END_TIMEOUT", 0.05)
    server = Server(lambda *_: OPEN)
    async with asked(server) as engine:
        for _ in range(2):
            await say(engine)
        assert server.connections == 2
        await server.closed()


async def test_they_are_few_and_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare, "MOST", 2)
    monkeypatch.setattr(spare, "LIFE", 0.1)
    server = Server(lambda *_: WHOLE)
    async with asked(server) as engine:
        await asyncio.gather(*(say(engine) for _ in range(6)))
        async with asyncio.timeout(5):
            while server.open > 2:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await server.closed()
        await say(engine)
