"""HTTP/1.1 to an engine: one request per connection, bytes straight into a callback.

A new connection for each request costs less than 50 microseconds on a socket, and an idle one
would hold a thread of llama.cpp's server, so none are kept.

A streamed reply costs no task switch per chunk: the transport hands its bytes to httptools, which
hands the body to the event reader, which calls `on_event`, all in one call of the event loop.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools

from shared.errors import EngineFailed
from worker.engines.base import EngineLost, Pausable
from worker.engines.events import EventReader, EventTooLong, LineReader

LONGEST_BODY = 64 * 1024 * 1024
"""Bytes of a reply that is not a stream (embeddings are the large ones)."""
CONNECT_TIMEOUT = 10.0
DONE = b"[DONE]"
FRAMINGS: tuple[tuple[bytes, type[EventReader | LineReader]], ...] = (
    (b"text/event-stream", EventReader),
    (b"application/x-ndjson", LineReader),
)
"""How the content types of streams are cut into events."""


class EngineUnreachable(EngineLost):
    """No connection could be made."""


class Refused(Exception):
    """The engine answered with a status other than 200; `body` is what it said."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.body = body


class Address(NamedTuple):
    """A socket path, or a host and a port; `prefix` begins every request's path."""

    socket: str
    host: str
    port: int
    prefix: str
    tls: bool = False

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read `http(s)://host:port/v1` or `unix:/path` (whose prefix is /v1)."""
        parts = urlsplit(url)
        if parts.scheme == "unix":
            return cls(parts.path, "localhost", 0, "/v1")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("neither http(s)://host:port/v1 nor unix:/path")
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
        return cls("", parts.hostname, port, parts.path.rstrip("/"), tls)


class Hold:
    """The engine's end of a stream, as a sink sees it."""

    __slots__ = ("_transport",)

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def pause_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()


class Exchange(asyncio.Protocol):
    """One request and its reply. `outcome` gets the reply's body (empty for a stream)."""

    def __init__(self, request: bytes, on_event: Callable[[bytes], None] | None) -> None:
        self.outcome: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._request = request
        self._reader: EventReader | LineReader | None = None
        """What cuts the body, when the reply is the stream that was asked for."""
        self._framing: type[EventReader | LineReader] | None = None
        self._on_event = on_event
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._body = bytearray()
        self._framed = False
        self._begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods but not the base class.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)
        self._request = b""

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            self.fail(error.__context__ or error)
        except httptools.HttpParserError as error:
            self.fail(EngineLost(f"the engine does not speak HTTP: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.outcome.done():
            self._lost(exc)
        # The parser knows this and this the parser: a cycle that would keep the request's body.
        del self._parser
        self._on_event = self._reader = None

    def _lost(self, exc: Exception | None) -> None:
        if self._begun and not self._framed and exc is None:
            self.on_message_complete()
        else:
            self.fail(EngineLost("the engine closed the connection before its reply ended"))

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
        if self._transport is not None:
            self._transport.close()

    def fail(self, error: BaseException) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(
                EngineLost("the event of the engine has no end")
                if isinstance(error, EventTooLong)
                else error
            )
            self.outcome.exception()  # who was cancelled while connecting does not ask for it
        if self._transport is not None:
            self._transport.abort()


class Upstream:
    """One engine's address and the headers every request to it carries."""

    def __init__(self, address: Address, headers: Mapping[str, str] | None = None) -> None:
        self._address = address
        # Certificates are checked against the authorities that this machine trusts.
        self._tls = ssl.create_default_context() if address.tls else None
        host = address.host if address.socket else f"{address.host}:{address.port}"
        lines = {"Host": host, "Connection": "close", "Accept": "*/*", **(headers or {})}
        if any(c in f"{name}{value}" for name, value in lines.items() for c in "\r\n"):
            raise ValueError("a header holds a line break")
        self._head = "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode()

    async def stream(
        self,
        path: str,
        body: bytes,
        on_event: Callable[[bytes], None],
        attach: Callable[[Pausable], None],
    ) -> None:
        """POST `body` and give each event's data to `on_event`; returns after the last one.

        Cancelling cuts the connection at once. Raises Refused, EngineLost, and whatever
        `on_event` raises (which cuts the connection too).
        """
        await self._exchange("POST", path, body, on_event, attach)

    async def call(self, method: str, path: str, body: bytes = b"") -> bytes:
        """One whole reply; raises Refused and EngineLost."""
        return await self._exchange(method, path, body, None, None)

    async def _exchange(
        self,
        method: str,
        path: str,
        body: bytes,
        on_event: Callable[[bytes], None] | None,
        attach: Callable[[Pausable], None] | None,
    ) -> bytes:
        head = (
            f"{method} {self._address.prefix}{path} HTTP/1.1\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        ).encode()
        transport, exchange = await self._connect(
            Exchange(b"".join((head, self._head, b"\r\n", body)), on_event)
        )
        try:
            if attach is not None:
                attach(Hold(transport))
            return await exchange.outcome
        finally:
            if not transport.is_closing():
                transport.abort()
            del exchange  # it has the error that this frame may be left with

    async def _connect(self, exchange: Exchange) -> tuple[asyncio.Transport, Exchange]:
        loop = asyncio.get_running_loop()
        to = self._address
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                if to.socket:
                    return await loop.create_unix_connection(lambda: exchange, to.socket)
                return await loop.create_connection(
                    lambda: exchange, to.host, to.port, ssl=self._tls
                )
        except ssl.SSLCertVerificationError as error:
            raise EngineFailed(
                f"The certificate of {to.host} is not trusted: {error.verify_message}."
            ) from error
        except ssl.SSLError as error:
            raise EngineUnreachable(f"the engine does not speak TLS: {error.reason}") from error
        except TimeoutError as error:
            raise EngineUnreachable("the engine did not take the connection in time") from error
        except OSError as error:
            raise EngineUnreachable(f"the engine cannot be reached: {error.strerror}") from error
