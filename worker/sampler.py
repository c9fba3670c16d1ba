"""Looks at every GPU once a second: for status, for metrics, and for the energy of requests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from shared import log
from worker.cuda import CudaDevice
from worker.device import DeviceFault
from worker.gpu import Sample

PERIOD = 1.0

logger = log.get("sampler")


class Sampler:
    """Keeps the last look at each device. A device that fails is asked again at every turn."""

    def __init__(self, devices: Sequence[CudaDevice], period: float = PERIOD) -> None:
        self._devices = devices
        self._period = period
        self._turn = asyncio.Condition()
        self.latest: dict[str, Sample | DeviceFault] = {}
        """By device name; empty before the first turn."""

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            for device in self._devices:
                await self._look(device)
            async with self._turn:
                self._turn.notify_all()
            await asyncio.sleep(self._period)

    async def turn(self) -> None:
        """Returns when the next turn is complete."""
        async with self._turn:
            await self._turn.wait()

    async def _look(self, device: CudaDevice) -> None:
        before = self.latest.get(device.name)
        try:
            self.latest[device.name] = await device.sample()
        except DeviceFault as broken:
            if not isinstance(before, DeviceFault):
                logger.error("device fails", device=device.name, reason=str(broken))
            self.latest[device.name] = broken
        else:
            if isinstance(before, DeviceFault):
                logger.info("device answers again", device=device.name)
