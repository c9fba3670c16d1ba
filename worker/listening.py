"""What a worker is told: control messages first, then the queues it is called for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import hiredis

from shared import keys, log, queue
from shared.queue import CLOSED, HANDED
from shared.resp import Link, Lost
from shared.wire.event import Control, decode_control

POLL_SECONDS = 1
"""How long a lost wake-up can delay a job."""
CLOSE_SECONDS = 1
MOST_AT_ONCE = 64

logger = log.get("listening")


class Listening:
    """`obey` gets each control message, `arrived` the name of a queue for each call, `receive` a
    call that has its job with it."""

    def __init__(
        self,
        redis: str,
        worker: str,
        obey: Callable[[Control], None],
        arrived: Callable[[str], None],
        receive: Callable[[bytes], None],
    ) -> None:
        self._link = Link(redis, "wake")
        self._worker = worker
        self._names = (keys.control(worker), keys.wake(worker))
        self._obey = obey
        self._arrived = arrived
        self._receive = receive
        self._deaf = asyncio.Event()

    async def start(self) -> None:
        await self._link.start()

    async def stop(self) -> None:
        await self._link.stop()

    async def close(self, link: Link) -> None:
        """Nothing is handed over any more; what was is received. Returns within CLOSE_SECONDS."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await link.call("RPUSH", self._names[1], CLOSED)
                await self._deaf.wait()
                for call in await queue.close_calls(link, self._worker):
                    self._hear(call)
        except (Lost, hiredis.HiredisError, TimeoutError) as error:
            logger.warning("what was handed over comes back by itself", error=str(error))

    async def run(self) -> None:
        """Blocks on the control list and the wake list, in that order; returns when closed."""
        while not self._deaf.is_set():
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
                for call in found[1]:
                    self._hear(call)

    def _hear(self, call: bytes) -> None:
        if call == CLOSED:
            self._deaf.set()
        elif call.startswith(HANDED):
            self._receive(call)
        else:
            self._arrived(call.decode())
