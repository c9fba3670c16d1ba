"""HTTP/1.1 to an engine.

A new connection for each request costs 20 to 50 microseconds on a socket, and an idle one would
hold a thread of llama.cpp's server, so none to engines of ours are kept. Upstreams elsewhere are
another matter: there a connection is round trips and a handshake.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from shared.errors import EngineFailed
from worker.engines.base import EngineLost, Pausable
from worker.engines.exchange import Exchange, Hold, NotHeard
from worker.engines.spare import Spares

CONNECT_TIMEOUT = 10.0


class EngineUnreachable(EngineLost):
    """No connection could be made."""


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


class Upstream:
    """One engine's address and the headers every request to it carries.

    `keep`: connections are kept for the next request.
    """

    def __init__(
        self, address: Address, headers: Mapping[str, str] | None = None, *, keep: bool = False
    ) -> None:
        self._address = address
        self._spares = Spares() if keep else None
        # Certificates are checked against the authorities that this machine trusts.
        self._tls = ssl.create_default_context() if address.tls else None
        host = address.host if address.socket else f"{address.host}:{address.port}"
        stays = "keep-alive" if keep else "close"
        lines = {"Host": host, "Connection": stays, "Accept": "*/*", **(headers or {})}
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
        request = b"".join((head, self._head, b"\r\n", body))
        if self._spares is not None and (spare := self._spares.take()) is not None:
            exchange = Exchange(request, on_event, self._spares)
            spare.set_protocol(exchange)
            exchange.connection_made(spare)
            try:
                return await self._outcome(exchange, attach)
            except NotHeard:
                # The engine closed it just then. It may be asked again: it answered nothing.
                pass
        exchange = Exchange(request, on_event, self._spares)
        await self._connect(exchange)
        return await self._outcome(exchange, attach)

    async def _outcome(
        self, exchange: Exchange, attach: Callable[[Pausable], None] | None
    ) -> bytes:
        try:
            if attach is not None:
                attach(Hold(exchange))
            return await exchange.outcome
        finally:
            exchange.leave()
            del exchange  # it has the error that this frame may be left with

    def close(self) -> None:
        """Hangs up what is kept."""
        if self._spares is not None:
            self._spares.close()

    async def _connect(self, exchange: Exchange) -> None:
        loop = asyncio.get_running_loop()
        to = self._address
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                if to.socket:
                    await loop.create_unix_connection(lambda: exchange, to.socket)
                else:
                    await loop.create_connection(lambda: exchange, to.host, to.port, ssl=self._tls)
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
