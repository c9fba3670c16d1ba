"""One engine on one device: start it, put it to sleep, end it, and prove what it holds."""

from __future__ import annotations

import asyncio
import time

import psycopg
from psycopg_pool import PoolTimeout

from shared import log
from shared.db import Pool
from shared.errors import EngineFailed
from shared.estimate import Estimate
from shared.footprint import Footprint, Key, reserve
from shared.store import footprint as store
from worker.device import Device, Lingering
from worker.engines.base import Engine
from worker.ledger import Ledger, Refused

RELEASE_WITHIN = 10.0
"""Seconds a dead process group has to give its bytes back; what lingers then is quarantined."""
GIVEN_BACK = Lingering(0, (), "process")

logger = log.get("resident")


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
    ) -> None:
        self.name = name
        self.engine = engine
        self.reserved = reserved
        self.estimate = estimate
        self.defaults = defaults
        """Request parameters for callers who give none."""
        self.loaded: int | None = None
        self.peak: int | None = None
        self.requests = 0
        self.suspects = asyncio.Lock()
        """Held by the one request that may find out whether it was what broke the engine."""
        self._key = key
        self._device = device
        self._ledger = ledger
        self._pids: list[int] = []

    async def load(self) -> float:
        """Starts the engine and measures it; returns the seconds that took.

        Raises EngineFailed; `stop` must follow then.
        """
        self._reserve()
        began = time.monotonic()
        await self.engine.start()
        self._pids = self.engine.pids()
        self.loaded = await self.measure()
        self.requests = 0
        return time.monotonic() - began

    async def wake(self) -> float:
        """Returns the seconds it took; raises EngineFailed."""
        self._reserve()
        began = time.monotonic()
        await self.engine.wake()
        await self.measure()
        return time.monotonic() - began

    async def sleep(self) -> int:
        """Returns the device bytes it keeps while asleep; raises EngineFailed."""
        await self.engine.sleep()
        kept = await self._look() or 0
        if self.reserved:
            self._ledger.settle(self.name, kept)
        return kept

    async def stop(self) -> Lingering:
        """Ends the process group, waits for its bytes, and closes its line in the books."""
        pids = self.engine.pids() or self._pids
        await self.engine.stop()
        self._pids = []
        left = await self._device.released(pids, RELEASE_WITHIN) if pids else GIVEN_BACK
        if left.bytes:
            self._ledger.quarantine(self.name, left.bytes, f"pids {left.pids} are dead")
        else:
            self._ledger.release(self.name)
        return left

    def clear(self) -> None:
        """Its quarantined bytes came back."""
        self._ledger.clear(self.name)

    async def measure(self) -> int | None:
        """Bytes it holds now, None for an engine elsewhere; settled in the ledger."""
        held = await self._look()
        if held is not None and self._ledger.held(self.name) is not None:
            self.peak = max(held, self.peak or 0)
            line = self._ledger.settle(self.name, held, max(0, self.reserved - held))
            self.reserved = max(self.reserved, line.reserved)
        return held

    async def remember(self, pool: Pool | None) -> None:
        """Reserves for the next load what this one took, and keeps that in PostgreSQL."""
        if self.estimate is None or self.loaded is None or self.peak is None:
            return
        taken = Footprint(
            weights=self.estimate.weights,
            adapters=self.estimate.adapters,
            loaded=self.loaded,
            peak=self.peak,
            requests=self.requests,
        )
        self.reserved = reserve(self.estimate, taken).bytes
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
            raise EngineFailed(
                f"{self.name} needs {asked.asked} bytes and {asked.free} are free of"
                f" {asked.budget}: {asked.reserved} reserved, {asked.quarantined} quarantined."
            )

    async def _look(self) -> int | None:
        pids = self.engine.pids()
        if not pids:
            return None
        return (await self._device.measure({self.name: pids}))[self.name].bytes


def last_words(error: BaseException) -> str:
    return error.message if isinstance(error, EngineFailed) else f"{type(error).__name__}: {error}"
