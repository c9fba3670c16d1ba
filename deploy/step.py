"""A process that ends by itself, such as a migration run; its output is read line by line."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence

from deploy.child import Child
from deploy.logfile import LogFile

LONGEST_LINE = 4096


class Step:
    def __init__(
        self, name: str, argv: Sequence[str], env: Mapping[str, str], log: LogFile
    ) -> None:
        self.name = name
        self.log = log
        self.status: int | None = None
        """The exit status, once it ended and all of its output was read."""
        self._child = Child(argv, log, env=env, orphaned=signal.SIGKILL, piped=True)
        self.pid = self._child.pid
        assert self._child.output is not None
        self.output = self._child.output.fileno()
        os.set_blocking(self.output, False)
        self._partial = b""

    def lines(self) -> Iterator[str]:
        """What it said since the last call; sets `status` at the end."""
        ended = self._child.exit()
        while data := self._read():
            *whole, self._partial = (self._partial + data).split(b"\n")
            self._partial = self._partial[-LONGEST_LINE:]
            yield from (line.decode("utf-8", "replace") for line in whole)
        if ended is not None:
            self.status = ended

    def _read(self) -> bytes:
        try:
            return os.read(self.output, 65536)
        except BlockingIOError:
            return b""

    def kill(self) -> None:
        self._child.kill()
        while self._child.exit() is None:
            pass
