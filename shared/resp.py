"""A pipelined Redis connection for the hot path: a future per command, a write per loop round.

Everything that is not on the path of a token uses redis-py. Parsing and packing are hiredis's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import hiredis
from redis.asyncio.connection import parse_url

from shared import log

Argument = bytes | str | int
ENOUGH = 4
"""Commands after which a round's are sent before it ends: the server works on them meanwhile."""
LONGEST_PAUSE = 0.5
"""Seconds between attempts to reach a server that is away."""
CONNECT_TIMEOUT = 5.0
LONGEST_SILENCE = 5
"""Seconds a server may owe a reply without sending a byte; every call of ours takes one at most."""

logger = log.get("redis")


class Lost(ConnectionError):
    """The connection is gone; whether the command ran is unknown."""


def forget(reply: asyncio.Future[Any]) -> None:
    """Ends a call whose outcome nobody asks for."""
    if not reply.cancelled():
        reply.exception()


class Address(NamedTuple):
    host: str
    port: int
    path: str | None
    tls: bool
    setup: tuple[tuple[Argument, ...], ...]

    @classmethod
    def parse(cls, url: str) -> Address:
        parts = parse_url(url)
        setup: list[tuple[Argument, ...]] = []
        if parts.get("password"):
            user = (parts["username"],) if parts.get("username") else ()
            setup.append(("AUTH", *user, parts["password"]))
        if parts.get("db"):
            setup.append(("SELECT", int(parts["db"])))
        return cls(
            parts.get("host", "localhost"),
            int(parts.get("port", 6379)),
            parts.get("path"),
            url.startswith("rediss://"),
            tuple(setup),
        )


class Connection(asyncio.Protocol):
    """One socket. Replies come back in the order of the calls."""

    def __init__(self, on_lost: Callable[[], None]) -> None:
        self._reader = hiredis.Reader(notEnoughData=Ellipsis)
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._unsent: list[bytes] = []
        """Commands of this round of the event loop: a write each would be a system call each."""
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._on_lost = on_lost
        self._heard = False

    def call(self, *command: Argument) -> asyncio.Future[Any]:
        """Sends one command; the future is the reply, a hiredis.ReplyError raised, or Lost.

        Losing the connection is never reported as an exception that nobody retrieved.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._transport is None:
            future.set_exception(Lost("not connected"))
            future.exception()
            return future
        data = hiredis.pack_command(command)  # type: ignore[arg-type]
        self._waiting.append(future)
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(data)
        if len(self._unsent) >= ENOUGH:
            self._send()
        return future

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and self._transport is not None:
            self._transport.write(b"".join(unsent) if len(unsent) > 1 else unsent[0])

    def close(self) -> None:
        self._send()
        if self._transport is not None:
            self._transport.abort()

    def is_silent(self) -> bool:
        """Whether a reply is owed and no byte came since this was asked last."""
        heard, self._heard = self._heard, False
        return not heard and bool(self._waiting)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        reader = self._reader
        reader.feed(data)
        while (reply := reader.gets()) is not Ellipsis:
            if not self._waiting:
                # What a server says before it was asked is why it will not serve us.
                logger.warning("redis spoke unasked", reply=str(reply))
                self.close()
                return
            future = self._waiting.popleft()
            if future.done():
                continue
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            if not future.done():
                future.set_exception(Lost("connection lost"))
                future.exception()
        self._on_lost()


class Link:
    """A Connection that is made anew whenever it breaks.

    `on_open` is called after every connect, the first one included, before anything else is sent.
    """

    def __init__(self, url: str, name: str, on_open: Callable[[], None] | None = None) -> None:
        self._address = Address.parse(url)
        self._name = name
        self._on_open = on_open
        self._connection: Connection | None = None
        self._open = asyncio.Event()
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    async def start(self) -> None:
        """Keeps connecting in the background and returns; see `wait_open`."""
        self._task = asyncio.create_task(self._keep_connected(), name=f"link-{self._name}")

    async def wait_open(self, timeout: float) -> None:
        """Raises Lost when there is no connection within `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._open.wait()
        except TimeoutError:
            raise Lost(f"Redis did not answer within {timeout:g} s") from None

    def call(self, *command: Argument) -> asyncio.Future[Any]:
        connection = self._connection
        if connection is None:
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            future.set_exception(Lost("not connected"))
            future.exception()
            return future
        return connection.call(*command)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _keep_connected(self) -> None:
        pause = 0.02
        while True:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    connection = await self._connect()
            except (OSError, TimeoutError, hiredis.HiredisError) as error:
                logger.warning("cannot reach redis", link=self._name, error=str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            pause = 0.02
            self._connection = connection
            if self._on_open is not None:
                self._on_open()
            self._open.set()
            await self._until_lost(connection)
            self._connection = None
            self._open.clear()
            logger.warning("redis connection lost", link=self._name)

    async def _until_lost(self, connection: Connection) -> None:
        """A server that hangs, or a host that vanished, is left like one that hung up."""
        silence = 0
        while not self._lost.is_set():
            try:
                async with asyncio.timeout(1):
                    await self._lost.wait()
            except TimeoutError:
                silence = silence + 1 if connection.is_silent() else 0
                if silence >= LONGEST_SILENCE:
                    logger.warning("redis does not answer", link=self._name)
                    connection.close()

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        self._lost = lost = asyncio.Event()
        address = self._address
        if address.path is not None:
            _, connection = await loop.create_unix_connection(
                lambda: Connection(lost.set), address.path
            )
        else:
            _, connection = await loop.create_connection(
                lambda: Connection(lost.set), address.host, address.port, ssl=address.tls or None
            )
        try:
            for command in address.setup:
                await connection.call(*command)
            # A server that is still loading its data accepts connections and refuses commands.
            await connection.call("PING")
        except BaseException:
            connection.close()
            raise
        return connection
