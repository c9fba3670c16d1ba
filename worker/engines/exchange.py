"""One request to an engine and its reply: bytes straight into a callback.

A streamed reply costs no task switch per chunk: the transport hands its bytes to httptools, which
hands the body to the event reader, which calls `on_event`, all in one call of the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from shared.errors import EngineFailed
from worker.engines.base import EngineLost
from worker.engines.events import EventReader, EventTooLong, LineReader
from worker.engines.spare import Spares

LONGEST_BODY = 64 * 1024 * 1024
"""Bytes of a reply that is not a stream (embeddings are the large ones)."""
END_TIMEOUT = 1.0
"""Seconds until a reply has ended whose last event came, or its connection is not kept."""
DONE = b"[DONE]"
FRAMINGS: tuple[tuple[bytes, type[EventReader | LineReader]], ...] = (
    (b"text/event-stream", EventReader),
    (b"application/x-ndjson", LineReader),
)
"""How the content types of streams are cut into events."""


class Refused(Exception):
    """The engine answered with a status other than 200; `body` is what it said."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.body = body


class NotHeard(EngineLost):
    """A connection ended before a byte of the reply had come."""


class Hold:
    """The engine's end of a stream, as a sink sees it, until the stream has ended."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def pause_reading(self) -> None:
        if (transport := self._exchange.transport) is not None and not transport.is_closing():
            transport.pause_reading()

    def resume_reading(self) -> None:
        if (transport := self._exchange.transport) is not None and not transport.is_closing():
            transport.resume_reading()


class Exchange(asyncio.Protocol):
    """One request and its reply. `outcome` gets the reply's body (empty for a stream).

    `spares` gets the connection when the reply has ended, if the engine keeps it open; without
    it is closed.
    """

    def __init__(
        self,
        request: bytes,
        on_event: Callable[[bytes], None] | None,
        spares: Spares | None = None,
    ) -> None:
        self._spares = spares
        self.transport: asyncio.Transport | None = None
        """None: there is no connection yet, or it is another exchange's, or nobody's."""
        self._heard = False
        self._stays: bool | None = None
        """Whether the engine keeps the connection open; None: the reply goes on."""
        self.outcome: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._request = request
        self._reader: EventReader | LineReader | None = None
        """What cuts the body, when the reply is the stream that was asked for."""
        self._framing: type[EventReader | LineReader] | None = None
        self._on_event = on_event
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()
        self._framed = False
        self._begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods but not the base class.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request)
        self._request = b""

    def data_received(self, data: bytes) -> None:
        self._heard = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            self.fail(error.__context__ or error)
        except httptools.HttpParserError as error:
            self.fail(EngineLost(f"the engine does not speak HTTP: {error}"))
        else:
            if self._stays and self._spares is not None:
                self._give_on(self._spares)

    def _give_on(self, spares: Spares) -> None:
        transport = self.transport
        if transport is not None and not transport.is_closing():
            self._let_go()
            spares.put(transport)

    def leave(self) -> None:
        """Nobody waits for it any more. What is left of a reply whose last event came is read."""
        if self.transport is None:
            return
        done = self.outcome.done() and not self.outcome.cancelled()
        if done and self._spares is not None and self.outcome.exception() is None:
            asyncio.get_running_loop().call_later(END_TIMEOUT, self._cut)
        else:
            self._cut()

    def _cut(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.outcome.done():
            self._lost(exc)
        self._let_go()

    def _let_go(self) -> None:
        # The parser knows this and this the parser: a cycle that would keep the request's body.
        del self._parser
        self._on_event = self._reader = self.transport = None

    def _lost(self, exc: Exception | None) -> None:
        if self._begun and not self._framed and exc is None:
            self.on_message_complete()
        else:
            lost = EngineLost if self._heard else NotHeard
            self.fail(lost("the engine closed the connection before its reply ended"))

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-type":
            self._framing = next((cut for kind, cut in FRAMINGS if value.startswith(kind)), None)
        elif name in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        self._begun = True
        asked = self._on_event is not None and self._parser.get_status_code() == 200
        if asked and self._framing is not None:
            self._reader = self._framing(self._event)

    def on_body(self, body: bytes) -> None:
        if self.outcome.done():
            return
        if self._reader is not None:
            self._reader.feed(body)
            return
        self._body += body
        if len(self._body) > LONGEST_BODY:
            raise EngineLost("the engine's reply is too long")

    def _event(self, data: bytes) -> None:
        if self.outcome.done():
            return
        if data == DONE:
            self._finish(b"")
        elif self._on_event is not None:
            self._on_event(data)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        self._stays = self._parser.should_keep_alive()
        if self.outcome.done():
            return
        if status != 200:
            self.fail(Refused(status, bytes(self._body)))
        elif self._on_event is not None and self._reader is None:
            self.fail(EngineFailed("The engine answered without streaming."))
        else:
            self._finish(bytes(self._body))

    def _finish(self, body: bytes) -> None:
        self.outcome.set_result(body)
        if self.transport is not None and (self._spares is None or not self._framed):
            self.transport.close()

    def fail(self, error: BaseException) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(
                EngineLost("the event of the engine has no end")
                if isinstance(error, EventTooLong)
                else error
            )
            self.outcome.exception()  # who was cancelled while connecting does not ask for it
        if self.transport is not None:
            self.transport.abort()
