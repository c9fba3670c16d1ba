"""Which files a model's answers come from: a digest that is the same where the same files are.

A file counts with its name, its size and samples of its content, so gigabytes take milliseconds.
A change between two samples alone goes unseen; other weights differ everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from shared.weights import WeightsError

PIECE = 64 * 1024
PIECES = 32
"""Of each file, spread evenly from its first byte to its last."""


class Identity:
    """`find` tells the file or folder of the weights, or raises WeightsError."""

    def __init__(self, find: Callable[[], Path]) -> None:
        self._find = find
        self._seen: tuple[object, ...] = ()
        self._held = False
        self.digest = ""
        """Empty: there are no files."""

    def look(self) -> None:
        """Notices other files, unless those of before are loaded, and those that an engine fetches
        to load them. Blocks.
        """
        if not self._held or not self._seen:
            self._read()

    def hold(self) -> None:
        """The files as they are now are about to be loaded. Blocks."""
        self._read()
        self._held = True

    def release(self) -> None:
        """They are loaded no more."""
        self._held = False

    def _read(self) -> None:
        try:
            paths = files(self._find())
            seen = tuple((str(path), *signature(path)) for path in paths)
            if seen != self._seen:
                self.digest = digest(paths)
                self._seen = seen
        except (WeightsError, OSError):
            self.digest, self._seen = "", ()


def files(path: Path) -> list[Path]:
    """The file itself, or what a folder has at its top."""
    if not path.is_dir():
        return [path]
    return sorted(one for one in path.iterdir() if one.is_file() and one.name[0] != ".")


def signature(path: Path) -> tuple[int, int, int]:
    """Changes with a file that is written or replaced."""
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def digest(paths: list[Path]) -> str:
    whole = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        whole.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            if size <= PIECE * PIECES:
                whole.update(file.read())
                continue
            for piece in range(PIECES):
                file.seek((size - PIECE) * piece // (PIECES - 1))
                whole.update(file.read(PIECE))
    return whole.hexdigest()[:16]
