"""Rounds over all that is loaded on one device: every engine in one look, and what is left over.

A device that does not tell its processes apart finds what a model took by what is known of all
others (see cuda.py), so nothing is measured by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from worker import memory
from worker.device import Device
from worker.ledger import Ledger
from worker.resident import Resident


class Reading(NamedTuple):
    """Bytes of the device at one moment."""

    available: int
    """What could be taken now; pages of our engines' own files are not counted in it."""
    ours: int
    """Held by our engines."""
    foreign: int
    """In use by anyone else, on the whole device; quarantined bytes are not in it."""
    ram: memory.Ram | None
    """For a device that is not the machine's own memory."""


class Measuring:
    """One round at a time; each settles every loaded model in the books."""

    def __init__(self, device: Device, ledger: Ledger, residents: Mapping[str, Resident]) -> None:
        self._device = device
        self._ledger = ledger
        self._residents = residents
        self._turn = asyncio.Lock()
        self.last: Reading | None = None

    async def round(self) -> Reading:
        """Raises DeviceFault; what was known stands then."""
        async with self._turn:
            loaded = {
                name: pids
                for name, resident in self._residents.items()
                if self._ledger.held(name) is not None and (pids := resident.engine.pids())
            }
            # Any of them may be forgotten while the device is asked.
            residents = {name: self._residents[name] for name in loaded}
            known = {
                name: resident.figure
                for name, resident in residents.items()
                if resident.figure is not None
            }
            # What others use says what a newcomer took. Without one, the least that was ever in
            # use by others tells that a model holds less than was known.
            newcomer = len(known) < len(loaded)
            foreign = self.last.foreign + self.quarantined() if self.last and newcomer else 0
            found = await self._device.measure(loaded, known, foreign)
            available, used = await self._device.free(), await self._device.used()
            for name, measured in found.items():
                residents[name].settle(measured)
            ours = sum(resident.held for resident in residents.values())
            cached = sum(measured.cached for measured in found.values())
            withheld = self.quarantined()
            self.last = Reading(
                available=max(0, available - cached),
                ours=ours,
                foreign=max(0, used + cached - ours - withheld),
                ram=None if self._device.kind == "cpu" else await asyncio.to_thread(memory.ram),
            )
            return self.last

    def quarantined(self) -> int:
        lines = self._ledger.snapshot().quarantines
        return sum(line.bytes + line.over for line in lines)

    def expected(self, without: str, foreign: int) -> int:
        """Bytes in use once `without` has left, if others use `foreign` by then."""
        return foreign + sum(
            resident.held
            for name, resident in self._residents.items()
            if name != without and self._ledger.held(name) is not None and resident.engine.pids()
        )
