"""Answers that are being computed for all who ask: those led from here, those waited for here.

A flight is a lease in Redis. Its end is told on a channel; who misses that looks a second later.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from itertools import count

import hiredis
import redis.asyncio as redis

from shared import cache, keys, log
from shared.resp import Link, Lost

RECONNECT_SECONDS = 0.5
LOOK_SECONDS = 1.0

logger = log.get("cache")


class Flights:
    """`gateway` names this process and nobody else."""

    def __init__(self, link: Link, url: str, gateway: str) -> None:
        self._link = link
        self._url = url
        self._gateway = gateway
        self._numbers = count()
        self._led: dict[str, str] = {}
        self._awaited: dict[str, set[asyncio.Event]] = {}
        self._releasing: set[asyncio.Task[None]] = set()

    def owner(self) -> str:
        """A name for who may lead next."""
        return f"{self._gateway}:{next(self._numbers)}"

    def lead(self, flight: str, owner: str) -> None:
        """The owner has the flight from now on; it is prolonged until it lands."""
        self._led[flight] = owner

    def land(self, flight: str, owner: str) -> bool:
        """It is not prolonged any more; False when it had ended before."""
        if self._led.get(flight) != owner:
            return False
        del self._led[flight]
        return True

    def release(self, flight: str, owner: str, *, alone: bool) -> None:
        """Ends a flight without an answer, in the background."""
        if self.land(flight, owner):
            task = asyncio.create_task(self._release(flight, owner, alone=alone))
            self._releasing.add(task)
            task.add_done_callback(self._releasing.discard)

    @contextlib.contextmanager
    def awaiting(self, flight: str) -> Iterator[asyncio.Event]:
        """An event that is set when the flight may have ended."""
        event = asyncio.Event()
        events = self._awaited.setdefault(flight, set())
        events.add(event)
        try:
            yield event
        finally:
            events.discard(event)
            if not events and self._awaited.get(flight) is events:
                del self._awaited[flight]

    async def watch(self) -> None:
        """Prolongs what is led, looks whether what is awaited still flies; for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                if self._led:
                    await cache.renew(self._link, dict(self._led))
                for flight in list(self._awaited):
                    if not await self._link.call("EXISTS", flight):
                        self._tell(flight)
            except (Lost, hiredis.HiredisError) as error:
                logger.warning("cannot look after flights", error=str(error))

    async def listen(self) -> None:
        """Wakes those whose flight ended; for ever."""
        client = redis.Redis.from_url(self._url)
        try:
            while True:
                with contextlib.suppress(redis.RedisError, OSError):
                    async with client.pubsub(ignore_subscribe_messages=True) as subscription:
                        await subscription.subscribe(keys.LANDED)
                        async for message in subscription.listen():
                            self._tell(message["data"].decode())
                for flight in list(self._awaited):
                    self._tell(flight)
                await asyncio.sleep(RECONNECT_SECONDS)
        finally:
            await client.aclose()

    async def stop(self) -> None:
        """Lets others take over what is led from here."""
        for flight, owner in list(self._led.items()):
            self.release(flight, owner, alone=False)
        if self._releasing:
            await asyncio.wait(self._releasing, timeout=1)

    def _tell(self, flight: str) -> None:
        for event in self._awaited.get(flight, ()):
            event.set()

    async def _release(self, flight: str, owner: str, *, alone: bool) -> None:
        try:
            await cache.release(self._link, flight, owner, alone=alone)
        except (Lost, hiredis.HiredisError) as error:
            logger.warning("flight not released, its lease runs out", error=str(error))
