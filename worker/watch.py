"""The watch over a device: what its books are corrected by, and when the scheduler hears of it.

Measured are all models at once, every few seconds and around each start and stop. While one is
under way its bytes cannot be told from others', so the turn in between is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from shared import log
from worker.device import Device, DeviceFault, Lingering
from worker.foreign import beyond, step, told
from worker.ledger import Ledger
from worker.measuring import Measuring, Reading
from worker.occasion import DeviceBytes, Occasion, Planned
from worker.residency import Device as State
from worker.resident import Resident

MEASURE_EVERY = 5.0
"""Seconds between two rounds."""
NOTICEABLE = 0.02
"""A share by which a measurement must exceed the last one to be told to the scheduler."""
KEPT_RAM = 0.1
"""The share of the RAM that sleepers leave to everybody else."""

logger = log.get("watch")


class Owner(Protocol):
    """Who decides, and is told."""

    state: State

    @property
    def now(self) -> float: ...

    def post(self, event: Occasion) -> None: ...


class Left(NamedTuple):
    """Bytes withheld because an engine that ended may still have them."""

    model: str
    pids: tuple[int, ...]
    foreign: int
    """What others used when it ended."""


class Watch:
    """Corrects ledger and scheduler by what the device shows; both know the same bytes.

    Holds one quarantine at most for each engine that was ended and not seen to be gone.
    """

    def __init__(
        self, device: Device, ledger: Ledger, residents: Mapping[str, Resident], owner: Owner
    ) -> None:
        self._device = device
        self._ledger = ledger
        self._residents = residents
        self._owner = owner
        self._measuring = Measuring(device, ledger, residents)
        self._lingering: dict[str, Left] = {}
        self._ended = 0
        self._faulty = False

    async def run(self) -> None:
        """Rounds until it is cancelled."""
        while True:
            await asyncio.sleep(MEASURE_EVERY)
            if self._owner.state.work is None:
                await self.round()

    async def round(self) -> None:
        """Measures, and tells what is new. A device that does not answer is asked again later;
        until then its last figures stand.
        """
        try:
            reading = await self._measuring.round()
            await self._review()
        except DeviceFault as fault:
            if not self._faulty:
                logger.error("cannot measure", device=self._device.name, reason=str(fault))
            self._faulty = True
            return
        self._faulty = False
        self._tell(reading)

    async def release(self, resident: Resident) -> None:
        """Ends an engine. What it does not give back is quarantined until the device shows it."""
        if resident.engine.alive:
            await self.round()
        last = self._measuring.last
        below = None if last is None else self._below(resident.name, last.foreign)
        left = await resident.stop(below)
        if left.bytes:
            why = in_words(resident.name, self._device.name, left)
            logger.error("bytes linger", bytes=left.bytes, why=why)
            self._ended += 1
            line = f"{resident.name}, end {self._ended}"
            self._ledger.quarantine(line, left.bytes, why)
            foreign = 0 if last is None else last.foreign
            self._lingering[line] = Left(resident.name, left.pids, foreign)
        await self.round()

    async def _review(self) -> None:
        """Lets go of quarantined bytes that came back."""
        for line, left in list(self._lingering.items()):
            seen = await self._device.released(left.pids, 0.0, self._below("", left.foreign, line))
            if seen.basis == "unknown":
                continue
            if seen.bytes:
                why = in_words(left.model, self._device.name, seen)
                self._ledger.quarantine(line, seen.bytes, why)
            else:
                logger.info("bytes came back", model=left.model)
                self._ledger.clear(line)
                del self._lingering[line]

    def _below(self, leaving: str, foreign: int, line: str = "") -> int:
        """What the device has in use at most when `leaving` and the quarantine `line` are gone."""
        quarantines = self._ledger.snapshot().quarantines
        withheld = sum(each.bytes + each.over for each in quarantines if each.holder != line)
        expected = self._measuring.expected(leaving, foreign)
        return expected + withheld + step(self._device.total)

    def _tell(self, reading: Reading) -> None:
        state = self._owner.state
        withheld = self._measuring.quarantined()
        taken = beyond(state.capacity, reading.available, reading.ours, withheld)
        foreign = told(state.foreign, taken, state.capacity)
        self._ledger.others(foreign)
        host = self._host(reading)
        if (foreign, withheld, host) != (state.foreign, state.quarantined, state.host):
            now = self._owner.now
            self._owner.post(DeviceBytes(now, state.capacity, foreign, withheld, host))
        for name, resident in list(self._residents.items()):
            slot = self._owner.state.slots.get(name)
            if slot is None or slot.state != "ready":
                continue
            if resident.reserved > slot.plan.size * (1 + NOTICEABLE):
                self.plan(resident)

    def plan(self, resident: Resident) -> None:
        """Tells the scheduler what the model takes from now on."""
        plan = self._owner.state.slots[resident.name].plan
        if plan.size != resident.reserved:
            grown = replace(plan, size=resident.reserved)
            self._owner.post(Planned(self._owner.now, resident.name, grown))

    def _host(self, reading: Reading) -> int:
        """Bytes of RAM for sleepers: none where the device is the RAM."""
        if reading.ram is None:
            return 0
        state, total = self._owner.state, reading.ram.total
        asleep = sum(slot.held_host for slot in state.slots.values() if slot.state == "asleep")
        most = int(total * (1 - KEPT_RAM))
        taken = beyond(most, reading.ram.available - (total - most), asleep, 0)
        return most - told(most - state.host if state.host else 0, taken, most)


def in_words(model: str, device: str, left: Lingering) -> str:
    """Why bytes are withheld."""
    begins = f"{model} has ended"
    if left.basis == "unknown":
        return f"{begins} and {device} does not tell whether its bytes are free"
    if left.basis == "remainder":
        return f"{begins} and {device} has more in use than what else is known"
    return f"{begins} and {device} still shows its processes {', '.join(map(str, left.pids))}"
