"""The bytes that a model's adapters take, and its successor while there are two of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from shared.weights import WeightsError, read_adapter
from worker.resident import Resident


class AdapterBytes:
    """Those of the adapters that its estimate holds are the resident's already.

    `free` tells the bytes that nobody holds; `replan` tells the scheduler what it takes now.
    """

    def __init__(
        self, resident: Resident, free: Callable[[], int], replan: Callable[[int], None]
    ) -> None:
        self._resident = resident
        self._free = free
        self._replan = replan
        self._doubled = False

    def book(self, total: int) -> int:
        """Sets what all adapters take together; the bytes that are missing for that, or 0."""
        resident = self._resident
        if not resident.reserved or resident.estimate is None:
            return 0
        more = max(0, total - resident.estimate.adapters) - resident.adapters
        if more > max(0, self._free()):
            return more - max(0, self._free())
        if more:
            resident.adapt(more)
            self._tell()
        return 0

    def double(self) -> bool:
        """Takes the bytes of a second process; False: they cannot be had, or are taken."""
        if self._doubled or self._free() < self._resident.reserved:
            return False
        self._doubled = self._resident.double()
        if self._doubled:
            self._tell()
        return self._doubled

    def single(self) -> None:
        """The second process is gone. Idempotent."""
        if self._doubled:
            self._doubled = False
            self._resident.single()
            self._tell()

    def end(self) -> None:
        """The engine is about to end; its own books are closed by the resident."""
        self._doubled = False

    def _tell(self) -> None:
        self._replan(self._resident.reserved * (1 + self._doubled))


def size_of(path: Path) -> int:
    """Bytes of an adapter; 0 for one that cannot be read, which its engine will refuse."""
    try:
        return read_adapter(path)
    except WeightsError:
        files = path.glob("adapter_model.*") if path.is_dir() else [path]
        return sum(file.stat().st_size for file in files if file.is_file())
