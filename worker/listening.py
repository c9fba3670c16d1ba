"""What a worker is told: control messages first, then the queues it is called for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import hiredis

from shared import keys, log, wake
from shared.resp import Link, Lost
from shared.wake import CLOSED, HANDED
from shared.wire.event import Control, decode_control

POLL_SECONDS = 1
"""How long a lost wake-up can delay a job."""
CLOSE_SECONDS = 1
LATE = 2.5
"""Seconds without an answer, POLL_SECONDS and some: the connection is silent, or we stood still."""
MOST_AT_ONCE = 64

logger = log.get("listening")


class Receive(Protocol):
    def __call__(self, call: bytes, *, late: bool) -> None: ...


class Listening:
    """`obey` gets each control message, `arrived` the name of a queue for each call, `receive` a
    call that has its job with it."""

    def __init__(
        self,
        redis: str,
        worker: str,
        obey: Callable[[Control], None],
        arrived: Callable[[str], None],
        receive: Receive,
    ) -> None:
        self._link = Link(redis, "wake")
        self._worker = worker
        self._names = (keys.control(worker), keys.wake(worker))
        self._obey = obey
        self._arrived = arrived
        self._receive = receive
        self._deaf = asyncio.Event()
        self._answered = 0.0
        """When Redis answered last, on the event loop's clock."""

    async def start(self) -> None:
        await self._link.start()

    async def stop(self) -> None:
        await self._link.stop()

    async def close(self, link: Link) -> None:
        """Nothing is handed over any more; what was is received. Returns within CLOSE_SECONDS."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await link.call("RPUSH", self._names[1], CLOSED)
                await link.call("PEXPIRE", self._names[1], keys.WAKE_MS)
                await self._deaf.wait()
                for call in await wake.close_calls(link, self._worker):
                    self._hear(call, late=False)
        except (Lost, hiredis.HiredisError, TimeoutError) as error:
            logger.warning("what was handed over comes back by itself", error=str(error))

    async def catch_up(self, link: Link) -> None:
        """Hears over another connection what its own does not bring. To be called every second."""
        if self._deaf.is_set() or not self._is_late():
            return
        for name in self._names:
            self._hear_all(name, await link.call("LPOP", name, MOST_AT_ONCE) or (), late=True)

    def _is_late(self) -> bool:
        return asyncio.get_running_loop().time() - self._answered > LATE

    async def run(self) -> None:
        """Blocks on the control list and the wake list, in that order; returns when closed."""
        loop = asyncio.get_running_loop()
        self._answered = loop.time()
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
            late, self._answered = self._is_late(), loop.time()
            if found is not None:
                self._hear_all(found[0].decode(), found[1], late=late)

    def _hear_all(self, name: str, said: Sequence[bytes], *, late: bool) -> None:
        for one in said:
            if name == self._names[0]:
                self._obey(decode_control(one))
            else:
                self._hear(one, late=late)

    def _hear(self, call: bytes, *, late: bool) -> None:
        if call == CLOSED:
            self._deaf.set()
        elif call.startswith(HANDED):
            self._receive(call, late=late)
        else:
            self._arrived(call.decode())
