"""Rooms for trainers on this worker's device: each is a resident that gives way to models.

The scheduler decides on it as on a model that is idle whenever it is there and that never comes
before one that is in use.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, NamedTuple

import hiredis
import msgspec

from shared import keys, log
from shared.clock import Clock
from shared.footprint import Key
from shared.resp import Link, Lost
from shared.wire.lease import Wish, Word, decode_wish, encode_word
from worker.engines.training import Training
from worker.loop import Loop
from worker.occasion import LoadAsked, Planned
from worker.residency import Plan
from worker.resident import Resident

LOOK = 0.2
"""Seconds between two looks at what trainers wish."""
SILENT = 5.0
"""Seconds after which a trainer that says nothing is taken to be dead."""
FORGOTTEN = 60.0
REPEAT = 1.0
ASK_AGAIN = 5.0
"""Seconds between two attempts that a trainer cannot have what it asks."""
MOST = 16
"""Wishes at once."""
BRING_SECONDS = 20.0
"""What it takes a child to come back to where it was, as a price in the scheduler's eyes."""

logger = log.get("leases")


class Refusal(NamedTuple):
    """It cannot be had now with every model gone that may go; asked again at `again`."""

    why: str
    again: float


class Leases:
    """Those of one device on this machine."""

    def __init__(self, link: Link, loop: Loop, clock: Clock) -> None:
        self._link = link
        self._loop = loop
        self._clock = clock
        self._wishes = keys.wishes(socket.gethostname(), loop.device.name)
        self._engines: dict[str, Training] = {}
        self._trainers: dict[str, str] = {}
        self._refused: dict[str, Refusal] = {}
        self._said: dict[str, Word] = {}
        self._said_at: dict[str, float] = {}

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await self.look()
            except (Lost, hiredis.HiredisError, OSError) as error:
                logger.warning("trainers are not heard", error=str(error))
            await asyncio.sleep(LOOK)

    async def look(self) -> None:
        """One round: hears, decides through the loop, and answers."""
        await self._hear()
        for name, engine in list(self._engines.items()):
            if name not in self._loop.residents:
                self._forget(name)
            elif self._silent(engine):
                logger.warning("a trainer fell silent", name=name)
                engine.abandon()
                self._loop.withdraw(name)
            else:
                self._want(name, engine.wish)
        await self._answer()

    async def _hear(self) -> None:
        flat = await self._link.call("HGETALL", self._wishes)
        for trainer, data in pairs(flat):
            try:
                wish = decode_wish(data)
            except msgspec.MsgspecError as error:
                logger.error("not a wish", trainer=trainer, error=str(error))
                await self._link.call("HDEL", self._wishes, trainer)
                continue
            age = self._clock.wall_ms() - wish.at_ms
            if age < SILENT * 1000:
                self._take(trainer, wish)
            over = not wish.wants and wish.name not in self._engines
            if over or age > FORGOTTEN * 1000:
                await self._link.call("HDEL", self._wishes, trainer)

    def _take(self, trainer: str, wish: Wish) -> None:
        name = wish.name
        if name not in self._engines:
            if not wish.wants or len(self._engines) >= MOST:
                return
            self._engines[name] = engine = Training(wish, self.look_again)
            self._loop.offer(self._resident(name, wish, engine), plan(wish))
            logger.info("asked for room", name=name, bytes=wish.bytes)
        self._engines[name].wish = wish
        self._trainers[name] = trainer

    def _resident(self, name: str, wish: Wish, engine: Training) -> Resident:
        key = Key(self._loop.device.kind, name, "training", 1, 1)
        return Resident(
            name, engine, self._loop.device, self._loop.ledger, wish.bytes, None, key, {}
        )

    async def look_again(self) -> None:
        """For an engine that waits for its child to go."""
        try:
            await self._answer()
            await self._hear()
        except (Lost, hiredis.HiredisError, OSError) as error:
            logger.warning("trainers are not heard", error=str(error))
        for engine in self._engines.values():
            if engine.leaving and self._silent(engine):
                engine.abandon()

    def _silent(self, engine: Training) -> bool:
        return self._clock.wall_ms() - engine.wish.at_ms > SILENT * 1000

    def _want(self, name: str, wish: Wish) -> None:
        """Tells the loop what has changed of it."""
        slot = self._loop.slot(name)
        if wish.wants and slot.state in ("absent", "failed") and slot.asked is None:
            refused = self._refused.get(name)
            if slot.plan.size != wish.bytes:
                self._replan(name, wish)
            elif refused is not None and self._clock.now() < refused.again:
                return
            error = self._loop.order(LoadAsked(self._loop.now, name))
            self._refused.pop(name, None)
            if error is not None:
                self._refused[name] = Refusal(error.message, self._clock.now() + ASK_AGAIN)
        elif not wish.wants and not wish.holding:
            self._loop.withdraw(name)

    def _replan(self, name: str, wish: Wish) -> None:
        """It asks for less now."""
        self._loop.residents[name].reserved = wish.bytes
        self._loop.post(Planned(self._loop.now, name, plan(wish)))

    async def _answer(self) -> None:
        pressed = any(
            slot.serving or slot.count
            for slot in self._loop.state.slots.values()
            if not slot.plan.background
        )
        now = self._clock.now()
        for name in list(self._engines):
            if name not in self._loop.residents:
                continue
            word = self._word(name, pressed=pressed)
            changed = self._said.get(name) != word
            if not changed and now - self._said_at[name] < REPEAT:
                continue
            self._said[name], self._said_at[name] = word, now
            key = keys.word(self._wishes, self._trainers[name])
            await self._link.call("SET", key, encode_word(word), "PX", keys.WORKER_MS)
            if changed:
                await self._link.call("PUBLISH", keys.TRAINING, keys.LEASE_WORD)

    def _word(self, name: str, *, pressed: bool) -> Word:
        engine, slot = self._engines[name], self._loop.slot(name)
        if engine.leaving or slot.state == "draining" or slot.gone:
            return Word(name=name, state="revoked")
        if engine.granted and slot.state == "ready":
            return Word(name=name, state="granted", pressed=pressed)
        if (refused := self._refused.get(name)) is not None:
            never = engine.wish.bytes > self._loop.state.capacity
            size = slot.plan.size
            return Word(name=name, state="refused", why=refused.why, never=never, bytes=size)
        return Word(name=name, state="waiting", why=self._loop.holds.get(name, slot.why))

    def _forget(self, name: str) -> None:
        for known in (self._trainers, self._refused, self._said, self._said_at):
            known.pop(name, None)
        del self._engines[name]


def plan(wish: Wish) -> Plan:
    return Plan(
        size=wish.bytes,
        load_seconds=BRING_SECONDS,
        places=1,
        keep_alive=-1.0,
        background=True,
    )


def pairs(flat: list[Any]) -> list[tuple[str, bytes]]:
    return [(name.decode(), data) for name, data in zip(flat[::2], flat[1::2], strict=True)]
