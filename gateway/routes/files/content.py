"""The bytes of a file on their way out: all of them, or the part that a Range header asks for."""

from __future__ import annotations

from collections.abc import AsyncIterable
from urllib.parse import quote

from gateway import span
from gateway.exchange import Exchange, Header, Presence
from gateway.span import Span
from shared import log
from shared.errors import HubError, RangeNotSatisfiable
from shared.wire.openai.file import FileObject

SECONDS = 3600.0
"""How long a client may take to read a file."""

logger = log.get("files")


def chosen(exchange: Exchange, file: FileObject) -> Span:
    """The bytes that are asked for; raises RangeNotSatisfiable."""
    whole, tag = Span(0, file.bytes), etag(file)
    if exchange.headers.get(b"if-range", tag) != tag:
        return whole
    try:
        return span.parse(exchange.headers.get(b"range"), file.bytes) or whole
    except RangeNotSatisfiable:
        exchange.extra.append((b"content-range", f"bytes */{file.bytes}".encode()))
        raise


async def send(
    exchange: Exchange, file: FileObject, part: Span, pieces: AsyncIterable[bytes]
) -> int:
    """Bytes sent. What fails behind the first of them ends the connection, so that nobody takes
    what came for the whole; raises ClientClosed."""
    status, headers = opening(file, part)
    sent = 0
    if exchange.method == "HEAD":
        await exchange.open(status, *headers)
        await exchange.write(b"", last=True)
        return 0
    with Presence(exchange, SECONDS):
        try:
            async for data in pieces:
                if not exchange.status:
                    await exchange.open(status, *headers)
                await exchange.write(data)
                sent += len(data)
        except HubError as error:
            if not exchange.status:
                raise
            logger.error("a file broke off", file=file.id, sent=sent, error=error.message)
            return sent
    await exchange.write(b"", last=True)
    return sent


def opening(file: FileObject, part: Span) -> tuple[int, list[Header]]:
    """It is offered for saving: a browser must never run what somebody uploaded."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\' else "_" for c in file.filename)
    name = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file.filename, safe='')}"
    headers = [
        (b"content-type", b"application/octet-stream"),
        (b"content-disposition", name.encode("ascii")),
        (b"x-content-type-options", b"nosniff"),
        (b"accept-ranges", b"bytes"),
        (b"etag", etag(file)),
        (b"content-length", str(part.end - part.start).encode()),
    ]
    if part == Span(0, file.bytes):
        return 200, headers
    told = f"bytes {part.start}-{part.end - 1}/{file.bytes}"
    return 206, [*headers, (b"content-range", told.encode())]


def etag(file: FileObject) -> bytes:
    """A file never changes."""
    return f'"{file.id}"'.encode()
