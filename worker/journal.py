"""The journal of decisions: the last ones in memory, more of them in files of bounded size."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

import msgspec

from shared import log
from shared.clock import Clock
from shared.wire.decision import FOLDER, decode_line
from worker.decision import Decision, encode, record
from worker.effect import Admit
from worker.occasion import Occasion
from worker.residency import Device
from worker.scheduler import Outcome

KEPT = 256
"""Decisions in memory."""
CAP = 16 * 1024 * 1024
"""Bytes of one generation of a file; the one before is kept beside it as NAME.jsonl.1."""

logger = log.get("journal")


class LineFile:
    """Lines appended to a file that is renamed when it is full. Nothing is lost by a crash but the
    line being written; a disk that cannot take lines costs those lines.
    """

    def __init__(self, path: Path, cap: int) -> None:
        self.path = path
        self._cap = cap
        self._full = False
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._open()

    def _open(self) -> None:
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(self._file).st_size
        if self._size and os.pread(self._file, 1, self._size - 1) != b"\n":
            self._size += os.write(self._file, b"\n")

    def last_number(self) -> int:
        """The highest number among the last lines; 0: none."""
        tail = os.pread(self._file, 1 << 20, max(0, self._size - (1 << 20)))
        number = 0
        for line in tail.splitlines():
            try:
                number = max(number, decode_line(line).number)
            except msgspec.DecodeError:
                continue
        return number

    def append(self, line: bytes) -> None:
        try:
            if self._size and self._size + len(line) > self._cap:
                self.path.replace(self.path.with_name(self.path.name + ".1"))
                os.close(self._file)
                self._open()
            self._size += os.write(self._file, line + b"\n")
            self._full = False
        except OSError as error:
            if not self._full:
                logger.warning("decisions are not written", path=str(self.path), error=str(error))
            self._full = True

    def close(self) -> None:
        os.close(self._file)


class Journal:
    """Notes every decision that has an effect. Those that only admit requests go to a file of
    their own, so that they do not push out what moved models.
    """

    def __init__(self, home: Path, lane: str, clock: Clock, cap: int = CAP) -> None:
        self.last: deque[Decision] = deque(maxlen=KEPT)
        """What moved, refused or held models; newest at the end."""
        self._moves = LineFile(home / FOLDER / f"{lane}.jsonl", cap)
        self._admissions = LineFile(home / FOLDER / f"{lane}.admissions.jsonl", cap)
        self._clock = clock
        self._number = max(self._moves.last_number(), self._admissions.last_number())

    def note(self, before: Device, event: Occasion, outcome: Outcome) -> None:
        if not outcome.effects:
            return
        self._number += 1
        decision = record(self._number, self._clock.wall_ms(), before, event, outcome)
        line = encode(decision)
        if all(isinstance(effect, Admit) for effect in outcome.effects):
            self._admissions.append(line)
        else:
            self._moves.append(line)
            self.last.append(decision)

    def close(self) -> None:
        self._moves.close()
        self._admissions.close()
