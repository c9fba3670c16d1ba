"""What a worker is told: control messages first, then the queues it is called for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import hiredis

from shared import keys, log
from shared.resp import Link, Lost
from shared.wire.event import Control, decode_control

POLL_SECONDS = 1
"""How long a lost wake-up can delay a job."""
MOST_AT_ONCE = 64

logger = log.get("listening")


class Listening:
    """`obey` gets each control message, `arrived` the name of a queue for each call."""

    def __init__(
        self,
        redis: str,
        worker: str,
        obey: Callable[[Control], None],
        arrived: Callable[[str], None],
    ) -> None:
        self._link = Link(redis, "wake")
        self._names = (keys.control(worker), keys.wake(worker))
        self._obey = obey
        self._arrived = arrived

    async def start(self) -> None:
        await self._link.start()

    async def stop(self) -> None:
        await self._link.stop()

    async def run(self) -> None:
        """Blocks on the control list and the wake list, in that order."""
        while True:
            try:
                await self._link.wait_open(60)
                found = await self._link.call(
                    "BLMPOP", POLL_SECONDS, 2, *self._names, "LEFT", "COUNT", MOST_AT_ONCE
                )
            except (Lost, hiredis.HiredisError) as error:
                logger.warning("not listening", error=str(error))
                await asyncio.sleep(0.02)
                continue
            if found is None:
                continue
            if found[0].decode() == self._names[0]:
                for message in found[1]:
                    self._obey(decode_control(message))
            else:
                for name in found[1]:
                    self._arrived(name.decode())
