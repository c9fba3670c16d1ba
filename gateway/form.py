"""multipart/form-data, piece by piece: fields whole, the file as it comes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection

import msgspec
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from gateway.exchange import Exchange
from shared.errors import InvalidRequest, InvalidType, InvalidValue, UnsupportedParameter

LONGEST_FIELD = 64 * 1024
"""Bytes of all fields but the file together."""
FRAME = LONGEST_FIELD + 64 * 1024
"""Bytes of a form that are not the file's."""
MOST_PARTS = 16


class Field(msgspec.Struct, frozen=True):
    name: str
    value: str


class Opened(msgspec.Struct, frozen=True):
    """The file begins; its bytes follow, then Closed."""

    filename: str | None


class Closed(msgspec.Struct, frozen=True):
    """The file was whole."""


Item = Field | Opened | bytes | Closed


async def read(
    exchange: Exchange, file: str, names: Collection[str], limit: int
) -> AsyncGenerator[Item, None]:
    """`file` is what the file is called, `names` are the fields, `limit` is in bytes of the file.

    Raises InvalidRequest for what is no such form, UnsupportedParameter and InvalidValue for its
    fields, and what Exchange.pieces raises.
    """
    parser = PushMultipartParser(boundary(exchange), max_segment_count=MOST_PARTS)
    seen: set[str] = set()
    value: bytearray | None = None
    name, taken = "", 0
    try:
        async for event in events(parser, exchange, limit + FRAME):
            if isinstance(event, MultipartSegment):
                name = known(event, file, names, seen)
                value = None if name == file else bytearray()
                if name == file:
                    yield Opened(event.filename)
            elif event is None:
                yield Closed() if value is None else Field(name, text(name, value))
            elif value is None:
                yield bytes(event)
            else:
                taken += len(event)
                if taken > LONGEST_FIELD:
                    raise InvalidValue(f"Invalid value for '{name}': too long.", param=name)
                value += event
    except MultipartError as error:
        raise InvalidRequest(f"The body is not valid multipart/form-data: {error}.") from None


async def events(
    parser: PushMultipartParser, exchange: Exchange, limit: int
) -> AsyncIterator[MultipartSegment | bytearray | bytes | None]:
    with parser:
        async for data in exchange.pieces(limit):
            for event in parser.parse(data):
                yield event


def boundary(exchange: Exchange) -> str:
    header = exchange.headers.get(b"content-type", b"").decode("latin-1")
    kind, options = parse_options_header(header)
    if kind != "multipart/form-data" or not options.get("boundary"):
        raise InvalidRequest(
            f"{exchange.path} takes multipart/form-data with a boundary, not {kind or 'nothing'!r}."
        )
    return str(options["boundary"])


def known(segment: MultipartSegment, file: str, names: Collection[str], seen: set[str]) -> str:
    """Its name; raises if it is none of ours, there twice, or not what it should be."""
    name = segment.name or ""
    if name != file and name not in names:
        raise UnsupportedParameter(f"Unknown parameter: '{name}'.", param=name)
    if name in seen:
        raise InvalidValue(f"'{name}' is there more than once.", param=name)
    seen.add(name)
    if (segment.filename is not None) != (name == file):
        wanted = "a file" if name == file else "a string"
        raise InvalidType(f"Invalid type for '{name}': expected {wanted}.", param=name)
    return name


def text(name: str, value: bytearray) -> str:
    try:
        found = value.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidValue(f"Invalid value for '{name}': not UTF-8.", param=name) from None
    if "\x00" in found:
        raise InvalidValue(f"Invalid value for '{name}'.", param=name)
    return found
