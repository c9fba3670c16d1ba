"""A child process: its own group, a bounded tail of what it says, and a sure end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

LONGEST_TAIL = 200
LONGEST_LINE = 2000
GRACE = 3.0
"""Seconds between the polite signal and the certain one."""


class Tail:
    """The last lines of a byte stream. Holds at most `lines` lines of 2,000 characters."""

    def __init__(self, lines: int = LONGEST_TAIL) -> None:
        self._lines: deque[str] = deque(maxlen=lines)
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """Take bytes; returns the lines they completed."""
        *whole, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-LONGEST_LINE:]
        lines = [line.decode("utf-8", "replace").rstrip()[:LONGEST_LINE] for line in whole]
        lines = [line for line in lines if line]
        self._lines.extend(lines)
        return lines

    def last(self, lines: int) -> list[str]:
        """The newest lines, the unfinished one included."""
        rest = self._rest.decode("utf-8", "replace").strip()
        return [*self._lines, *([rest] if rest else [])][-lines:]


class Child(asyncio.SubprocessProtocol):
    """One running child; make it with `spawn`.

    `on_line` gets every line of its standard output, as soon as it is whole. Standard output and
    standard error both go to the tail.
    """

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Its exit status (minus the signal's number when a signal ended it)."""
        self.pid = 0
        self._on_line = on_line
        self._tails = {1: Tail(), 2: Tail()}
        self._transport: asyncio.SubprocessTransport | None = None
        self._closed = asyncio.Event()

    @property
    def alive(self) -> bool:
        return self.pid != 0 and not self.exited.done()

    def tail(self, lines: int = 20) -> list[str]:
        """The last lines it wrote, standard output before standard error."""
        return [*self._tails[1].last(lines), *self._tails[2].last(lines)][-lines:]

    async def stop(self, grace: float = GRACE) -> int:
        """End the whole group and wait for the child; idempotent. Returns the exit status."""
        if not self.exited.done():
            self._signal(signal.SIGTERM)
            await asyncio.wait({self.exited}, timeout=grace)
        self._signal(signal.SIGKILL)
        status = await asyncio.shield(self.exited)
        if self._transport is not None:
            self._transport.close()
        return status

    async def drained(self) -> None:
        """Return when it has exited and everything it wrote is in the tail."""
        await self._closed.wait()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods but not the base class.
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self.pid = self._transport.get_pid() or 0

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        lines = self._tails[fd].feed(data)
        if fd == 1 and self._on_line is not None:
            for line in lines:
                self._on_line(line)

    def process_exited(self) -> None:
        status = self._transport.get_returncode() if self._transport is not None else None
        if not self.exited.done():
            self.exited.set_result(-1 if status is None else status)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed.set()


def inherited() -> dict[str, str]:
    """Our environment without the hub's own settings, which hold secrets."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AIHUB_")}


async def spawn(
    argv: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Child:
    """Start `argv` in a session of its own, `environment` over the inherited one.

    Raises OSError when it cannot be started.
    """
    loop = asyncio.get_running_loop()
    _, child = await loop.subprocess_exec(
        lambda: Child(on_line),
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        env=inherited() | dict(environment or {}),
        cwd=folder,
        start_new_session=True,
    )
    return child
