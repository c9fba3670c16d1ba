"""The device a job trains on: room on it is asked of the worker that has it.

Where no worker serves on the device, and none comes, the job has it alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping

import msgspec
import redis.asyncio as redis

from shared import keys, log
from shared.wire.lease import Wish, Word, decode_word, encode_wish
from shared.wire.node import decode_state
from shared.wire.training import Note
from trainer.book import Book
from trainer.planning import Planned, UntrainableError
from trainer.process import Child

REPEAT = 0.5
"""Seconds between two wishes that say the same."""
ALONE_AFTER = 0.5
"""Seconds without a word from a worker of the device. One that comes later hears of the job, and
books what it has."""
REST = 5.0
"""Seconds after a job gave way before it asks again: models come back first."""
CALM = 2.0
"""Seconds without a request before a child that stands still goes on."""
PATIENCE = 20.0
"""Seconds for which room is waited for before another job is tried; idle models leave in less."""
REFUSED_PATIENCE = 2.0
"""The same where the worker says that nothing more would leave."""
TURN = 600.0
"""The same of a job that MOST_OVERTAKEN others have overtaken."""
MOST_OVERTAKEN = 4
ASK_OTHERS = 1.0
AWAY = (redis.RedisError, OSError)

logger = log.get("lease")


class NoRoomError(Exception):
    """There is no room now, and another job can be tried; the message says what is in the way."""

    def __init__(self, why: str, *, had_its_turn: bool) -> None:
        super().__init__(why)
        self.had_its_turn = had_its_turn


class Lease:
    """Room on one device of this machine; `name` is the trainer's own."""

    def __init__(self, link: redis.Redis, name: str, device: str) -> None:
        self._link = link
        self._name = name
        self._device = device
        self._host = os.uname().nodename
        self._wishes = keys.wishes(self._host, device)
        self._gave_way = float("-inf")
        self.moved = asyncio.Event()
        """Set by whoever hears that a worker said another word."""

    @contextlib.asynccontextmanager
    async def held(
        self, made: Planned, book: Book, wanted: Callable[[], bool]
    ) -> AsyncIterator[Place]:
        """Waits for room as long as the job is `wanted`, and gives it back at the end.

        Raises UntrainableError where there is never enough, and NoRoomError.
        """
        place = Place(self, made, book)
        await self._rest(wanted)
        talking: asyncio.Task[None] | None = None
        try:
            talking = asyncio.create_task(place.talk())
            await place.admitted(wanted)
            yield place
        finally:
            if place.revoked:
                self._gave_way = time.monotonic()
            if talking is not None:
                talking.cancel()
                await asyncio.gather(talking, return_exceptions=True)
            await place.leave()

    async def _rest(self, wanted: Callable[[], bool]) -> None:
        while wanted() and time.monotonic() - self._gave_way < REST:  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    async def say(self, wish: Wish) -> None:
        await self._link.hset(self._wishes, mapping={self._name: encode_wish(wish)})  # type: ignore[misc]

    async def hear(self) -> Word | None:
        data = await self._link.get(keys.word(self._wishes, self._name))
        try:
            return None if data is None else decode_word(data)
        except msgspec.MsgspecError as error:
            logger.error("not a word", error=str(error))
            return None

    async def served(self) -> bool:
        """Whether a worker that lives has this device."""
        since = time.time_ns() // 1_000_000 - keys.WORKER_MS
        for name in await self._link.zrangebyscore(keys.WORKERS, since, "+inf"):
            data = await self._link.get(keys.worker(name.decode()))
            if data is None:
                continue
            state = decode_state(data)
            if (state.host, state.device.name) == (self._host, self._device):
                return True
        return False

    @property
    def environment(self) -> Mapping[str, str]:
        """For the child: the one card it may see."""
        kind, _, number = self._device.partition(":")
        return {"CUDA_VISIBLE_DEVICES": number if kind == "cuda" else ""}


class Place:
    """Room for one job: asked for, had, and given back."""

    def __init__(self, lease: Lease, made: Planned, book: Book) -> None:
        self._lease = lease
        self._book = book
        self._made = made
        self._size = made.sizes[0]
        self._wish = Wish(
            job=book.claim.id,
            fence=book.claim.fence,
            bytes=self._size.bytes,
            wants=True,
            holding=False,
            at_ms=0,
        )
        self._word: Word | None = None
        self._told = ""
        self._child: Child | None = None
        self._still = False
        self._calm_since = 0.0
        self.revoked = False
        self.alone = False

    @property
    def environment(self) -> Mapping[str, str]:
        return self._lease.environment

    @property
    def planned(self) -> Planned:
        """With the batch that there is room for."""
        return self._made.shrunk(self._size)

    def _shrink(self, word: Word) -> None:
        """Asks for the next smaller batch, where there is one."""
        smaller = [size for size in self._made.sizes if size.bytes < self._size.bytes]
        if smaller:
            self._size = smaller[0]
            self._wish = msgspec.structs.replace(self._wish, bytes=self._size.bytes)
        elif word.never:
            raise UntrainableError(f"There is not enough memory: {word.why}")

    def occupied(self, child: Child) -> None:
        """The child that takes the room; it is told when others want it."""
        self._child = child
        self._wish = msgspec.structs.replace(self._wish, pid=child.pid)
        self._lease.moved.set()

    async def talk(self) -> None:
        """Repeats the wish and obeys the word, until it is cancelled."""
        while True:
            with contextlib.suppress(*AWAY):
                await self._say()
                self._obey(await self._lease.hear())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPEAT if self._child is None else REPEAT / 2):
                    await self._lease.moved.wait()
            self._lease.moved.clear()

    async def admitted(self, wanted: Callable[[], bool]) -> None:
        """Returns when there is room, or when it is wanted no more.

        A smaller batch is tried where a larger one cannot be had. Raises UntrainableError where
        the device is too small for one example, and NoRoomError where others should be tried.
        """
        began = asked = time.monotonic()
        while wanted():
            word = self._word
            if word is None:
                if time.monotonic() - began > ALONE_AFTER and await self._alone():
                    return
            elif word.state == "granted":
                if await self._sure():
                    return
            elif word.state == "refused" and word.bytes == self._size.bytes:
                self._shrink(word)
            if word is not None and word.why:
                await self._tell(word.why)
                now = time.monotonic()
                if now - began > self._patience(word) and now - asked > ASK_OTHERS:
                    asked = now
                    if await self._book.others():
                        turn = self._book.claim.overtaken >= MOST_OVERTAKEN
                        raise NoRoomError(word.why, had_its_turn=turn)
            await asyncio.sleep(0.05)

    def _patience(self, word: Word) -> float:
        smallest = self._size.bytes == min(size.bytes for size in self._made.sizes)
        final = word.state == "refused" and smallest
        return patience(self._book.claim.overtaken, final=final)

    async def _tell(self, why: str) -> None:
        if why != self._told:
            self._told = why
            await self._book.waits(why)

    async def leave(self) -> None:
        """The child is gone; nobody hears it while Redis is away, and the wish ages."""
        self._wish = msgspec.structs.replace(self._wish, wants=False, holding=False)
        with contextlib.suppress(*AWAY):
            await self._say()

    async def _sure(self) -> bool:
        """Says that it takes the room, then asks whether it still may."""
        self._wish = msgspec.structs.replace(self._wish, holding=True)
        try:
            await self._say()
            word = await self._lease.hear()
        except AWAY:
            word = None
        if word is not None and word.name == self._wish.name and word.state == "granted":
            return True
        self._wish = msgspec.structs.replace(self._wish, holding=False)
        return False

    async def _alone(self) -> bool:
        try:
            self.alone = not await self._lease.served()
        except AWAY:
            return False
        if self.alone:
            self._wish = msgspec.structs.replace(self._wish, holding=True)
            await self._book.note(Note("No worker serves on the device: the job has it alone"))
        return self.alone

    async def _say(self) -> None:
        now = time.time_ns() // 1_000_000
        await self._lease.say(msgspec.structs.replace(self._wish, at_ms=now))

    def _obey(self, word: Word | None) -> None:
        if word is not None and word.name != self._wish.name:
            word = None
        self._word = word
        child = self._child
        if child is None or not child.alive:
            return
        if word is not None and word.state == "revoked" and not self.revoked:
            logger.info("makes room", job=self._wish.job)
            self.revoked = True
            child.order("stop")
        self._stand(child, pressed=word is not None and word.pressed)

    def _stand(self, child: Child, *, pressed: bool) -> None:
        now = time.monotonic()
        if pressed:
            self._calm_since = now
            if not self._still:
                self._still = True
                child.order("hold")
        elif self._still and now - self._calm_since >= CALM:
            self._still = False
            child.order("go")


def patience(overtaken: int, *, final: bool) -> float:
    """Seconds before others are tried; `final`: the worker has said that nothing more would leave.

    Whoever was overtaken often enough keeps the others waiting for once, so it is not passed by for
    ever; and not for longer, so what never fits does not hold them up for ever.
    """
    if overtaken >= MOST_OVERTAKEN:
        return TURN
    return REFUSED_PATIENCE if final else PATIENCE
