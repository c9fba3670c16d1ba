"""A child's log file: two generations of bounded size."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

CAP = 16 * 1024 * 1024
"""Bytes of one generation. The one before is kept beside it as NAME.log.1."""
TAIL = 64 * 1024


class LogFile:
    def __init__(self, path: Path, cap: int = CAP) -> None:
        self.path = path
        self._cap = cap
        self._begin = 0

    def open(self) -> int:
        """A descriptor for a child to append to; what earlier children wrote is kept."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.bound()
        self._begin = self.path.stat().st_size
        return descriptor

    def rotate(self) -> None:
        """Begin a new generation; call it while nothing writes."""
        if self.path.exists() and self.path.stat().st_size:
            self.path.replace(self._older)

    def bound(self) -> None:
        """Keep the size under the cap while a child writes.

        The child goes on appending to the same file, so it is copied and emptied, not renamed.
        """
        if self.path.stat().st_size <= self._cap:
            return
        shutil.copyfile(self.path, self._older)
        self._older.chmod(0o600)
        os.truncate(self.path, 0)
        self._begin = 0

    def tail(self, lines: int = 15) -> list[str]:
        """The last lines of the child that writes now."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._begin, size - TAIL))
            text = file.read().decode("utf-8", "replace")
        return [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]

    @property
    def _older(self) -> Path:
        return self.path.with_name(self.path.name + ".1")
