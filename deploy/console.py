"""Progress on the terminal: one line per event, with the seconds since the start."""

from __future__ import annotations

import sys
import time
from typing import TextIO


class Console:
    """Writes `seconds  name  text` lines; goes quiet for good when the terminal is gone."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._began = time.monotonic()
        self._gone = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def line(self, name: str, text: str) -> None:
        self.write(f"{self.seconds:7.1f}s  {name:<9} {text}\n")

    def write(self, text: str) -> None:
        if self._gone:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            # A closed terminal or pipe must not keep the supervisor from stopping its children.
            self._gone = True
