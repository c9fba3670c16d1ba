"""One engine on one device: start it, put it to sleep, end it, and keep what it holds."""

from __future__ import annotations

import asyncio
import re
import time

import psycopg
from psycopg_pool import PoolTimeout

from shared import log
from shared.db import Pool
from shared.errors import EngineFailed
from shared.estimate import Estimate
from shared.footprint import Footprint, Key, newer, reserve
from shared.store import footprint as store
from worker import memory
from worker.adapting import Adapting
from worker.device import Device, DeviceFault, Lingering, Measured
from worker.engines.base import Engine, Granted
from worker.identity import Identity
from worker.ledger import Ledger, Refused

NEWEST = 0.1
"""What the newest request weighs in the mean time of all."""
RELEASE_WITHIN = 10.0
"""Seconds a dead process group has to give its bytes back; what lingers then is quarantined."""
GIVEN_BACK = Lingering(0, (), "process")
LARGER = 1.1
"""A model that did not fit into its reservation gets so much more for its next start."""
SHOWN = 0.5
"""A sleeper that took less than this share of its weights in RAM has it where PSS does not look."""
OUT_OF_MEMORY = re.compile(r"out of memory|OutOfMemory|(not enough|no available) memory", re.I)

logger = log.get("resident")


class NoRoom(EngineFailed):
    """The books do not have its bytes; its engine was not touched."""


class Resident:
    """`reserved` bytes are taken from the ledger for it; 0 for an engine that runs elsewhere."""

    def __init__(
        self,
        name: str,
        engine: Engine,
        device: Device,
        ledger: Ledger,
        reserved: int,
        estimate: Estimate | None,
        key: Key,
        defaults: dict[str, float | int],
        known: Footprint | None = None,
        least: int = 0,
    ) -> None:
        self.name = name
        self.engine = engine
        self.reserved = reserved
        self.estimate = estimate
        self.defaults = defaults
        """Request parameters for callers who give none."""
        self.figure: int | None = None
        """The bytes it was last measured to hold; None: not measured in its present state."""
        self.adapting: Adapting | None = None
        """None: its engine takes no adapters."""
        self.identity: Identity | None = None
        """None: its files are elsewhere."""
        self.adapters = 0
        """Bytes of adapters beyond those that the estimate holds."""
        self.loaded: int | None = None
        self.peak: int | None = None
        self.requests = 0
        self.request_seconds = 0.0
        """Mean time its requests had their place, newer ones weigh more; 0: none had one yet."""
        self.suspects = asyncio.Lock()
        """Held by the one request that may find out whether it was what broke the engine."""
        self._key = key
        self._known = known
        self._least = least
        """A start with fewer bytes ran out of memory; 0: none did."""
        self._device = device
        self._ledger = ledger
        self._pids: list[int] = []
        self._asleep = False
        self._most_adapters = 0
        self._doubled = False

    @property
    def held(self) -> int:
        """The bytes it holds, as far as that is known."""
        return self.reserved if self.figure is None else self.figure

    def took(self, seconds: float) -> None:
        """A request was answered, so many seconds after it had its place."""
        before = self.request_seconds or seconds
        self.request_seconds = before + (seconds - before) * NEWEST

    async def load(self) -> float:
        """Starts the engine; returns the seconds that took. It is to be measured then.

        Raises NoRoom, or EngineFailed, after which `stop` must follow.
        """
        self._reserve()
        if self.identity is not None:
            await asyncio.to_thread(self.identity.hold)
        self.loaded = self.peak = self.figure = None
        if isinstance(self.engine, Granted):
            self.engine.grant(self.reserved)
        began = time.monotonic()
        await self.engine.start()
        self._pids = self.engine.pids()
        self.requests = 0
        self._most_adapters = self.adapters
        return time.monotonic() - began

    async def wake(self) -> float:
        """Returns the seconds it took; raises NoRoom, or EngineFailed."""
        self._reserve()
        began = time.monotonic()
        await self.engine.wake()
        self._asleep, self.figure = False, None
        return time.monotonic() - began

    async def sleep(self) -> int:
        """Returns the host bytes it takes for that; raises EngineFailed.

        What it keeps of the device is to be measured then.
        """
        before = await self._host()
        await self.engine.sleep()
        self._asleep, self.figure = True, None
        taken = await self._host() - before
        weights = 0 if self.estimate is None else self.estimate.weights
        # Some drivers do not show pinned pages as the process's own.
        return taken if taken > weights * SHOWN else weights

    async def _host(self) -> int:
        return (await asyncio.to_thread(memory.held, self.engine.pids())).bytes

    async def stop(self, below: int | None) -> Lingering:
        """Ends the process group, waits for its bytes, and closes its line in the books.

        `below` is what the device is expected to have in use then, None: not known.
        """
        self.single()
        pids = self.engine.pids() or self._pids
        await self.engine.stop()
        if self.identity is not None:
            self.identity.release()
        left = GIVEN_BACK
        if self._ledger.held(self.name) is not None:
            try:
                left = await self._device.released(pids, RELEASE_WITHIN, below)
            except DeviceFault as fault:
                logger.warning("cannot see what it gave back", model=self.name, reason=str(fault))
                left = Lingering(0, tuple(pids), "unknown")
            if left.basis == "unknown" and not left.bytes:
                left = Lingering(self.held, left.pids, "unknown")
        self._ledger.release(self.name)
        self._pids, self._asleep, self.figure = [], False, None
        return left

    def settle(self, found: Measured) -> None:
        """Books what a measurement found.

        Nothing at all is what is found of an engine that died a moment ago. A remainder may show
        that less is held than was known, but not more: the rise may be somebody else's.
        """
        if self._ledger.held(self.name) is None or found.bytes is None:
            return
        if not found.bytes and not self._asleep:
            return
        bytes = found.bytes
        if found.basis == "remainder" and self.figure is not None:
            bytes = min(bytes, self.figure)
        self.figure = bytes
        if self._doubled:
            # What one of two takes is not to be told.
            return
        if self._asleep:
            self._ledger.settle(self.name, bytes)
            return
        self.loaded = bytes if self.loaded is None else self.loaded
        self.peak = max(bytes, self.peak or 0)
        self.reserved = max(self.reserved, bytes)
        self._ledger.settle(self.name, bytes, self.reserved - bytes)

    async def grow(self, most: int, pool: Pool | None) -> None:
        """Its start ran out of memory within its reservation: the next ones get more, which is kept
        in PostgreSQL.
        """
        self.reserved = max(self.reserved, min(most, int(self.reserved * LARGER)))
        self._least = max(self._least, self.reserved - self.adapters)
        logger.warning("estimate was too small", model=self.name, reserved=self.reserved)
        if pool is None or self.estimate is None:
            return
        try:
            await store.record_shortfall(pool, self._key, self.estimate.weights, self._least)
        except (psycopg.Error, PoolTimeout) as error:
            logger.warning("shortfall not kept", model=self.name, error=str(error))

    def adapt(self, more: int) -> None:
        """Reserves so many bytes more for adapters, or fewer; the caller knows of their room."""
        self.adapters += more
        self._most_adapters = max(self._most_adapters, self.adapters)
        self.reserved += more
        line = self._ledger.held(self.name)
        if line is not None and line.measured is not None:
            self._ledger.settle(self.name, line.measured, max(0, self.reserved - line.measured))
        elif line is not None:
            self._ledger.admit(self.name, self.reserved)

    def double(self) -> bool:
        """Reserves as much again for a second process; False: there is no room."""
        asked = self._ledger.admit(successor(self.name), self.reserved)
        self._doubled = not isinstance(asked, Refused)
        return self._doubled

    def single(self) -> None:
        """The second process is gone. Idempotent."""
        self._doubled = False
        self._ledger.release(successor(self.name))

    async def remember(self, pool: Pool | None) -> None:
        """Reserves for the next load what this one took, and keeps that in PostgreSQL."""
        self.reserved, self.adapters = self.reserved - self.adapters, 0
        if self.estimate is None or self.loaded is None or self.peak is None:
            return
        taken = Footprint(
            weights=self.estimate.weights,
            adapters=self.estimate.adapters + self._most_adapters,
            loaded=self.loaded,
            peak=self.peak,
            requests=self.requests,
        )
        self._known = newer(self._known, taken)
        self.reserved = reserve(self.estimate, self._known, self._least).bytes
        if pool is None:
            return
        try:
            await store.record(pool, self._key, taken)
        except (psycopg.Error, PoolTimeout) as error:
            logger.warning("measurement not kept", model=self.name, error=str(error))

    def _reserve(self) -> None:
        if not self.reserved:
            return
        asked = self._ledger.admit(self.name, self.reserved)
        if isinstance(asked, Refused):
            raise NoRoom(
                f"{self.name} needs {asked.asked} bytes and {asked.free} are free of"
                f" {asked.budget}: {asked.reserved} reserved, {asked.quarantined} quarantined,"
                f" {asked.foreign} used by others."
            )


def ran_out(words: str) -> bool:
    """Whether an engine's last words say that its device had too little memory."""
    return OUT_OF_MEMORY.search(words) is not None


def successor(name: str) -> str:
    """The line in the books of a second process."""
    return f"{name} (successor)"


def last_words(error: BaseException) -> str:
    return error.message if isinstance(error, EngineFailed) else f"{type(error).__name__}: {error}"
