"""How far a load is, seen from outside the process that loads. Pure but for reading /proc."""

from __future__ import annotations

import os
from pathlib import Path

from shared.wire.node import LoadProgress

PAGE = os.sysconf("SC_PAGE_SIZE")
SHARED = 2
"""The field of /proc/PID/statm that counts resident pages of files."""
NEARLY_ALL = 0.97
"""A share of a GGUF file from which on its weights are read: the rest is its head."""


def file_bytes(process: str | int = "self") -> int | None:
    """Bytes of mapped files that a process has resident; None when it is gone.

    One counter of the kernel: /proc/PID/smaps would tell the mappings apart and walk every page
    for that.
    """
    try:
        fields = Path(f"/proc/{process}/statm").read_bytes().split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[SHARED]) * PAGE


class MappedFile:
    """The reading of one file that a child maps, as llama.cpp does with its weights.

    `before` are the bytes of files that the child had resident when it began. What was read
    once counts as read: llama.cpp unmaps what it copied into another layout.
    """

    def __init__(self, total: int, before: int) -> None:
        self._total = total
        self._before = before
        self._read = 0

    def progress(self, resident: int) -> LoadProgress:
        """With `resident` bytes of files resident now."""
        self._read = max(self._read, min(self._total, resident - self._before))
        phase = "reading weights" if self._read < NEARLY_ALL * self._total else "warming up"
        return LoadProgress(phase, self._read, self._total)
