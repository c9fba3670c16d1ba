"""Connections to an upstream that wait for their next request."""

from __future__ import annotations

import asyncio
from typing import cast

MOST = 64
LIFE = 15.0
"""Seconds that one may wait. Most servers keep theirs for longer."""


class Resting(asyncio.Protocol):
    """Nobody speaks on it. A server that does, or that hangs up, is left."""

    def __init__(self, spares: Spares, transport: asyncio.Transport) -> None:
        self._spares = spares
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._spares.forget(self._transport)


class Spares:
    """At most MOST of one upstream; the last one used is the first to be used again."""

    def __init__(self) -> None:
        self._since: dict[asyncio.Transport, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def take(self) -> asyncio.Transport | None:
        """One that was open when we last heard of it."""
        while self._since:
            transport, _ = self._since.popitem()
            if not transport.is_closing():
                return transport
        return None

    def put(self, transport: asyncio.Transport) -> None:
        if transport.is_closing():
            return
        if len(self._since) >= MOST:
            transport.close()
            return
        # Whoever was held back while the end of its reply had been read leaves it paused.
        transport.resume_reading()
        transport.set_protocol(Resting(self, transport))
        loop = asyncio.get_running_loop()
        self._since[transport] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(LIFE, self._tidy)

    def forget(self, transport: asyncio.BaseTransport) -> None:
        self._since.pop(cast(asyncio.Transport, transport), None)

    def close(self) -> None:
        """Hangs up all of them."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for transport in self._since:
            transport.close()
        self._since.clear()

    def _tidy(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        for transport, since in list(self._since.items()):
            if since <= loop.time() - LIFE:
                del self._since[transport]
                transport.close()
        if self._since:
            oldest = min(self._since.values())
            self._timer = loop.call_at(oldest + LIFE, self._tidy)
