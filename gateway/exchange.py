"""One HTTP request and its reply, without a framework's cost per request."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from math import ceil
from time import perf_counter
from types import TracebackType
from urllib.parse import unquote

from litestar.types import HTTPScope, Receive, Send

from gateway.auth import Principal
from gateway.use import Use
from shared import ids
from shared.errors import BodyTooLarge, ClientClosed, HubError, InvalidRequest, NotFound
from shared.wire.account import Account
from shared.wire.event import Failed
from shared.wire.openai import error
from shared.wire.task import Origin

JSON = (b"content-type", b"application/json")
EVENTS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
VERSION = (b"openai-version", b"2020-10-01")
SANE_ID = re.compile(rb"^[\x21-\x7e]{1,512}$")

UPLOAD_SECONDS = 120.0
"""How long a client may take to send its request."""
SILENT_SECONDS = 60.0
"""How long it may send nothing of a request that is read piece by piece."""
PIECES_SECONDS = 3600.0
"""How long such a request may take."""

Header = tuple[bytes, bytes]


class Exchange:
    """What a route reads from and writes to. `status` is 0 until the reply has begun."""

    __slots__ = (
        "_raw_path",
        "_receive",
        "_send",
        "began",
        "client_id",
        "extra",
        "headers",
        "id",
        "method",
        "model",
        "parameters",
        "principal",
        "query",
        "status",
        "use",
    )

    def __init__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.began = perf_counter()
        self.id = ids.new("req_")
        self.method: str = scope["method"]
        self._raw_path = scope["raw_path"]
        self.query: bytes = scope["query_string"]
        self.parameters: Mapping[str, str] = {}
        self.headers = dict(scope["headers"])
        given = self.headers.get(b"x-client-request-id", b"")
        self.client_id = given if SANE_ID.match(given) else None
        self.status = 0
        self.model: str | None = None
        self.extra: list[Header] = []
        self.principal: Principal | None = None
        self.use = Use()

    @property
    def account(self) -> Account:
        """Whose request it is, on a route that is not public."""
        assert self.principal is not None
        return self.principal.account

    @property
    def origin(self) -> Origin:
        """Whose use a task of this request is."""
        return Origin(self.id, self.account.project, self.use.endpoint)

    @property
    def path(self) -> str:
        """As the client wrote it, with its percent signs decoded."""
        return unquote(self._raw_path.decode("latin-1"))

    @property
    def seconds(self) -> float:
        """Since the request came."""
        return perf_counter() - self.began

    def unknown(self) -> NotFound:
        return NotFound(f"Unknown path: {self.method} {self.path}.")

    @property
    def declared(self) -> int | None:
        """Bytes of the body, as far as the client said."""
        length = self.headers.get(b"content-length", b"")
        return int(length) if length.isdigit() else None

    async def read(self, limit: int) -> bytes:
        """The body; raises BodyTooLarge, before reading on, when it has more than `limit` bytes."""
        if (self.declared or 0) > limit:
            raise self._too_large(limit)
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                return await self._read(limit)
        except TimeoutError:
            raise InvalidRequest(
                f"The body of the request did not arrive within {UPLOAD_SECONDS:g} seconds."
            ) from None

    async def pieces(self, limit: int) -> AsyncGenerator[bytes, None]:
        """The body as it comes, never whole: the client is read as fast as this is.

        Raises BodyTooLarge, as `read`, and InvalidRequest after SILENT_SECONDS without a byte, or
        PIECES_SECONDS in all.
        """
        if (self.declared or 0) > limit:
            raise self._too_large(limit)
        loop = asyncio.get_running_loop()
        end = loop.time() + PIECES_SECONDS
        size, more = 0, True
        while more:
            try:
                async with asyncio.timeout_at(min(end, loop.time() + SILENT_SECONDS)):
                    data, more = await self._piece()
            except TimeoutError:
                raise InvalidRequest(
                    f"Nothing of the request arrived within {SILENT_SECONDS:g} seconds, or not all"
                    f" of it within {PIECES_SECONDS:g}."
                ) from None
            size += len(data)
            if size > limit:
                raise self._too_large(limit)
            if data:
                yield data

    async def respond(self, status: int, body: bytes, *headers: Header) -> None:
        """The whole reply at once."""
        await self._start(status, *headers, (b"content-length", str(len(body)).encode()))
        await self._send(
            {
                "type": "http.response.body",
                "body": b"" if self.method == "HEAD" else body,
                "more_body": False,
            }
        )

    async def refuse(self, failed: Failed) -> None:
        """The reply to a request that failed before anything was sent."""
        self.use.code = failed.code
        await self.respond(failed.status, error.encode(failed), *refusal(failed))

    async def open_stream(self) -> None:
        """Server-sent events follow."""
        await self._start(200, *EVENTS)

    async def open(self, status: int, *headers: Header) -> None:
        """What is written follows; the headers say what it is and how much."""
        await self._start(status, *headers)

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Part of a stream; waits while the client does not read."""
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def departure(self) -> None:
        """Returns when the client has gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def own_headers(self) -> list[Header]:
        """What every reply carries."""
        own = [
            *self.extra,
            (b"x-request-id", self.id.encode()),
            (b"openai-processing-ms", str(int(self.seconds * 1000)).encode()),
            VERSION,
        ]
        if self.client_id is not None:
            own.append((b"x-client-request-id", self.client_id))
        return own

    async def _start(self, status: int, *headers: Header) -> None:
        self.status = status
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [*headers, *self.own_headers()],
            }
        )

    async def _read(self, limit: int) -> bytes:
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            data, more = await self._piece()
            size += len(data)
            if size > limit:
                raise self._too_large(limit)
            parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _piece(self) -> tuple[bytes, bool]:
        """More of the body, and whether that was not all."""
        message = await self._receive()
        if message["type"] != "http.request":
            raise ClientClosed("The client left before its request was read.")
        return message["body"], message["more_body"]

    def _too_large(self, limit: int) -> HubError:
        return BodyTooLarge(f"The body of the request is larger than {limit} bytes.")


def refusal(failed: Failed) -> list[Header]:
    """The headers an error has beyond those of every reply."""
    headers = [JSON]
    if failed.retry_after is not None or failed.status in (429, 503):
        seconds = failed.retry_after or 1.0
        headers.append((b"retry-after", str(ceil(seconds)).encode()))
        headers.append((b"retry-after-ms", str(ceil(seconds * 1000)).encode()))
    if failed.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if failed.status == 413:
        headers.append((b"connection", b"close"))
    return headers


class Presence:
    """While entered, the client's departure cancels the task and raises ClientClosed.

    So does a client that is still not done reading after `limit` seconds. Who is answered before
    `after` seconds is not watched, which is a tenth of what so short a request costs; who left
    meanwhile is noticed then.
    """

    def __init__(self, exchange: Exchange, limit: float, after: float = 0.0) -> None:
        self._exchange = exchange
        self._limit = limit
        self._after = min(after, limit)
        self._left = False
        self._watch: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        if self._after:
            self._timer = asyncio.get_running_loop().call_later(self._after, self._begin)
        else:
            self._begin()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
        if self._left and kind is asyncio.CancelledError:
            self._task.uncancel()
            raise ClientClosed("The client closed the connection.")

    def _begin(self) -> None:
        self._watch = asyncio.create_task(self._wait())
        rest = self._limit - self._after
        self._timer = asyncio.get_running_loop().call_later(rest, self._leave)

    async def _wait(self) -> None:
        await self._exchange.departure()
        self._leave()

    def _leave(self) -> None:
        self._left = True
        self._task.cancel()
