"""The exact response cache of a gateway: what is kept is found, what is computed is kept once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import hiredis
import msgspec

from gateway.ask import Ask
from gateway.cache import kept as form
from gateway.cache.canonical import digest, repeats
from gateway.cache.flights import Flights
from gateway.cache.kept import Kept
from gateway.cache.terms import Terms
from shared import cache, keys, log
from shared.cache import Place, Room, Size
from shared.resp import Link, Lost
from shared.settings import Settings
from shared.wire.account import Account

SWEEP_SECONDS = 2.0
TELL_SECONDS = 10.0
"""Between two signs of life to a client whose request waits for another's answer."""
AWAY = (Lost, hiredis.HiredisError)

logger = log.get("cache")
Tell = Callable[[], Awaitable[None]]


class Hit(NamedTuple):
    """`joined`: it was being computed for another when this request came."""

    kept: Kept
    age_ms: int
    joined: bool


class Turn:
    """The answer is to be computed here. Whoever has a turn ends it with `close`."""

    def __init__(
        self, responses: Responses, place: Place, owner: str, began_ms: int | None
    ) -> None:
        self._responses = responses
        self._place = place
        self._owner = owner
        self._began_ms = began_ms
        self.alone = False
        """Whether those who wait had better not try one after the other."""

    async def keep(self, kept: Kept | None) -> None:
        """Keeps the answer and lets those who wait have it; None cannot be kept."""
        if kept is None or self._began_ms is None:
            self.alone = True
            return
        self.alone = not await self._responses.keep(self._place, self._owner, kept, self._began_ms)

    def close(self) -> None:
        """Lets others go on, if nothing was kept for them."""
        self._responses.flights.release(self._place.flight, self._owner, alone=self.alone)


class Responses:
    """One per gateway process; what it keeps is in Redis and shared by all."""

    def __init__(self, settings: Settings, gateway: str) -> None:
        self._link = Link(settings.redis, "cache")
        self._room = Room(settings.cache_bytes, int(settings.cache_seconds * 1000))
        self.largest = min(settings.cache_entry_bytes, settings.cache_bytes)
        """Bytes of an answer that is kept."""
        self.flights = Flights(self._link, settings.redis, gateway)
        self.size = Size(0, 0)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def room(self) -> Room:
        return self._room

    async def start(self) -> None:
        """Raises Lost when Redis is away."""
        await self._link.start()
        await self._link.wait_open(10)
        self._tasks = [
            asyncio.create_task(work(), name=f"cache-{work.__name__}")
            for work in (self.flights.watch, self.flights.listen, self._sweep)
        ]

    async def stop(self) -> None:
        await self.flights.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._link.stop()

    def wants(self, ask: Ask, account: Account, terms: Terms) -> bool:
        """Whether the answer is kept, or one that is kept would do."""
        if not account.cache.response or not self.largest or terms.off:
            return False
        return terms.asked or repeats(ask.kind, ask.temperature, ask.entry.model.defaults)

    def place(self, ask: Ask, account: Account, identity: str) -> Place:
        """Where an answer is kept that comes of files named `identity`."""
        name = digest(
            ask.kind,
            ask.entry,
            ask.body,
            project=account.project,
            fingerprint=ask.fingerprint,
            identity=identity,
        )
        # Nobody waits for an answer that stands in a slower line than his own.
        flight = keys.flight(name, ask.service)
        adapter = ask.entry.adapter
        version = "" if adapter is None else adapter.name
        return Place(name, account.project, ask.entry.base, version, flight)

    async def find(self, place: Place, terms: Terms, end: float, tell: Tell) -> Hit | Turn:
        """The answer, or the turn to compute it. Waits while another computes it for all.

        `tell` is called when that has taken a while, and again. Raises TimeoutError at `end`, on
        the event loop's clock.
        """
        owner = self.flights.owner() if terms.look else ""
        oldest = terms.oldest_ms if terms.look else 0
        try:
            found = await self._look(place, owner, oldest, joined=False)
            if found is not None:
                return found
            with self.flights.awaiting(place.flight) as ended:
                while True:
                    ended.clear()
                    found = await self._look(place, owner, oldest, joined=True)
                    if found is not None:
                        return found
                    await until(ended, end, tell)
        except AWAY as error:
            logger.warning("cannot look", error=str(error))
            return Turn(self, place, "", None)

    async def keep(self, place: Place, owner: str, kept: Kept, began_ms: int) -> bool:
        """Whether it is kept."""
        data = form.encode(kept)
        if len(data) > self.largest:
            return False
        try:
            done = await cache.keep(self._link, place, owner, data, began_ms, self._room)
        except AWAY as error:
            logger.warning("cannot keep", error=str(error))
            return False
        self.flights.land(place.flight, owner)
        return done

    async def now(self) -> int | None:
        """Redis's time in ms, for `purged`; None: it does not answer."""
        try:
            return await cache.now(self._link)
        except AWAY as error:
            logger.warning("cannot tell the time", error=str(error))
            return None

    async def purged(self, project: str, model: str, since_ms: int) -> bool:
        """Whether the semantic cache must not keep any more what was begun then."""
        try:
            return await cache.purged(self._link, project, model, since_ms)
        except AWAY as error:
            logger.warning("cannot look for purges", error=str(error))
            return True

    async def purge(self, project: str = "", models: Sequence[str] = ()) -> int:
        """How many answers went; raises Lost or HiredisError."""
        return await cache.purge(self._link, project, models)

    async def mark_meant(self, project: str, models: Sequence[str] = ()) -> None:
        """Notes a purge of the semantic cache alone; raises Lost or HiredisError."""
        await cache.mark_meant(self._link, project, models)

    async def measure(self) -> Size:
        """What all gateways keep together; raises Lost or HiredisError."""
        return await cache.measure(self._link)

    async def _look(
        self, place: Place, owner: str, oldest_ms: int, *, joined: bool
    ) -> Hit | Turn | None:
        """None: another computes it."""
        looked = await cache.look(self._link, place, owner, oldest_ms)
        if looked.what == "hit":
            try:
                return Hit(form.decode(looked.data), looked.age_ms, joined)
            except msgspec.MsgspecError as error:
                logger.error("kept in another form", error=str(error))
                return Turn(self, place, "", looked.at_ms)
        if looked.what == "follow":
            return None
        if looked.what == "alone":
            return Turn(self, place, "", looked.at_ms)
        self.flights.lead(place.flight, owner)
        return Turn(self, place, owner, looked.at_ms)

    async def _sweep(self) -> None:
        while True:
            try:
                self.size = await cache.sweep(self._link, self._room.bytes)
            except AWAY as error:
                logger.warning("cannot sweep", error=str(error))
            await asyncio.sleep(SWEEP_SECONDS)


async def until(event: asyncio.Event, end: float, tell: Tell) -> None:
    """Returns once it is set; raises TimeoutError at `end`."""
    loop = asyncio.get_running_loop()
    while True:
        now = loop.time()
        if now >= end:
            raise TimeoutError
        try:
            async with asyncio.timeout_at(min(end, now + TELL_SECONDS)):
                await event.wait()
                return
        except TimeoutError:
            if loop.time() < end:
                await tell()
