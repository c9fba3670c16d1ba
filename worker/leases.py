"""Rooms for trainers on this worker's device: each is a resident that gives way to models.

The scheduler decides on it as on a model that is idle whenever it is there and that never comes
before one that is in use.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import hiredis
import msgspec

from shared import keys, log
from shared.clock import Clock
from shared.footprint import Key
from shared.resp import Link, Lost
from shared.wire.lease import Wish, Word, decode_wish, encode_word
from worker.device import Device
from worker.engines.training import Training
from worker.ledger import Ledger
from worker.loop import Loop
from worker.occasion import LoadAsked, UnloadAsked
from worker.residency import Plan
from worker.resident import Resident

LOOK = 0.2
"""Seconds between two looks at what trainers wish."""
SILENT = 5.0
"""Seconds after which a trainer that says nothing is taken to be dead."""
MOST = 16
"""Wishes at once."""
BRING_SECONDS = 20.0
"""What it takes a child to come back to where it was, as a price in the scheduler's eyes."""

logger = log.get("leases")


class Leases:
    """Those of one device on this machine."""

    def __init__(
        self, link: Link, loop: Loop, device: Device, ledger: Ledger, clock: Clock
    ) -> None:
        self._link = link
        self._loop = loop
        self._device = device
        self._ledger = ledger
        self._clock = clock
        self._wishes = keys.wishes(socket.gethostname(), device.name)
        self._engines: dict[str, Training] = {}
        self._trainers: dict[str, str] = {}
        self._heard: dict[str, float] = {}
        self._refused: dict[str, str] = {}
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
        now = self._clock.now()
        for name, engine in list(self._engines.items()):
            if name not in self._loop.residents:
                self._forget(name)
            elif now - self._heard[name] > SILENT:
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
            self._take(trainer, wish)
        if flat:
            # Who lives writes again within the second.
            await self._link.call("DEL", self._wishes)

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
        self._heard[name] = self._clock.now()

    def _resident(self, name: str, wish: Wish, engine: Training) -> Resident:
        key = Key(self._device.kind, name, "training", 1, 1)
        return Resident(name, engine, self._device, self._ledger, wish.bytes, None, key, {})

    async def look_again(self) -> None:
        """For an engine that waits for its child to go."""
        try:
            await self._answer()
            await self._hear()
        except (Lost, hiredis.HiredisError, OSError) as error:
            logger.warning("trainers are not heard", error=str(error))
        now = self._clock.now()
        for name, engine in self._engines.items():
            if engine.leaving and now - self._heard[name] > SILENT:
                engine.abandon()

    def _want(self, name: str, wish: Wish) -> None:
        """Tells the loop what has changed of it."""
        slot = self._loop.slot(name)
        there = slot.state in ("loading", "ready")
        if wish.wants and slot.state in ("absent", "failed") and slot.asked is None:
            error = self._loop.order(LoadAsked(self._loop.now, name))
            if error is None:
                self._refused.pop(name, None)
            elif slot.state == "absent":
                self._refused[name] = error.message
        elif not wish.wants and not wish.holding and (there or slot.asked is not None):
            self._loop.post(UnloadAsked(self._loop.now, name))

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
            if not changed and now - self._said_at[name] < 1:
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
        if name in self._refused:
            return Word(name=name, state="refused", why=self._refused[name])
        return Word(name=name, state="waiting", why=self._loop.holds.get(name, slot.why))

    def _forget(self, name: str) -> None:
        for known in (self._trainers, self._heard, self._refused, self._said, self._said_at):
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
