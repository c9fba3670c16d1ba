"""What the child told of its steps, kept in the job's folder.

A trainer may die with reports that it never wrote, and the next child goes on behind them: from
its checkpoint's journal it tells them again.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from trainer.manifest import sync
from trainer.report import Step, Validation, decode

FILE = "told.jsonl"
Told = Step | Validation


class Journal:
    """Goes on behind `step`: what was told of later ones is forgotten. Raises OSError."""

    def __init__(self, folder: Path, step: int) -> None:
        path = folder / FILE
        self.told = [each for each in read(path) if each.step <= step] if step else []
        self._path = path
        part = path.with_suffix(".part")
        part.write_bytes(b"".join(map(line, self.told)))
        part.replace(path)
        self._file = path.open("ab", buffering=0)

    def add(self, said: Told) -> None:
        self._file.write(line(said))

    def sync(self) -> None:
        """To be called before a checkpoint is sealed, which counts on it."""
        sync(self._path)


def line(said: Told) -> bytes:
    return msgspec.json.encode(said) + b"\n"


def read(path: Path) -> list[Told]:
    """As far as it is whole; nothing where there is no file."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    found: list[Told] = []
    for each in lines:
        try:
            said = decode(each)
        except msgspec.MsgspecError:
            break
        if isinstance(said, Step | Validation):
            found.append(said)
    return found
