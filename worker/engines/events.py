"""Events cut out of a byte stream that may be split anywhere: SSE, and JSON lines. Pure."""

from __future__ import annotations

from collections.abc import Callable

LONGEST_EVENT = 8 * 1024 * 1024
"""Bytes one unfinished event may have before the stream counts as broken."""


class EventTooLong(Exception):
    """An event had no end within LONGEST_EVENT bytes."""


class EventReader:
    """Calls `on_event` with the data of every whole event, in order.

    Lines end with LF or CRLF. Comments, ids, retry times and event names are passed over; the
    data lines of one event are joined with a newline, as the standard says.
    """

    __slots__ = ("_data", "_on_event", "_rest")

    def __init__(self, on_event: Callable[[bytes], None]) -> None:
        self._on_event = on_event
        self._rest = b""
        self._data: bytes | None = None

    def feed(self, piece: bytes) -> None:
        """Take the next bytes; raises EventTooLong, and whatever `on_event` raises."""
        lines = (self._rest + piece if self._rest else piece).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > LONGEST_EVENT:
            raise EventTooLong
        data = self._data
        for line in lines:
            if line.endswith(b"\r"):
                line = line[:-1]
            if not line:
                if data is not None:
                    self._data = None
                    self._on_event(data)
                    data = None
            elif line.startswith(b"data:"):
                value = line[6:] if line.startswith(b"data: ") else line[5:]
                data = value if data is None else data + b"\n" + value
                if len(data) > LONGEST_EVENT:
                    raise EventTooLong
            elif line == b"data":
                data = b"" if data is None else data + b"\n"
        self._data = data


class LineReader:
    """Calls `on_event` with every whole line that is not blank, in order (NDJSON)."""

    __slots__ = ("_on_event", "_rest")

    def __init__(self, on_event: Callable[[bytes], None]) -> None:
        self._on_event = on_event
        self._rest = b""

    def feed(self, piece: bytes) -> None:
        """Take the next bytes; raises EventTooLong, and whatever `on_event` raises."""
        lines = (self._rest + piece if self._rest else piece).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > LONGEST_EVENT:
            raise EventTooLong
        for line in lines:
            if line and not line.isspace():
                self._on_event(line)
