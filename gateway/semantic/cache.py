"""Answers found by meaning: looked for after the exact cache missed, kept once computed."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import psycopg
from psycopg_pool import PoolTimeout, TooManyRequests

from gateway.semantic.guard import admits
from shared import log
from shared.clock import Clock, SystemClock
from shared.db import Pool
from shared.store import semantic
from shared.store.semantic import Neighbour, Question, Room
from shared.wire.account import SemanticCache as Settings

LARGEST_ANSWER = 256 * 1024
"""Bytes of an answer that is still kept."""
ROOM = Room(answers=10_000, bytes=256 * 1024 * 1024, seconds=7 * 24 * 3600.0)
TRIM_EVERY = 32
"""Answers a process keeps between two looks at the room of the project it keeps one for."""
WITHIN = 1.0
"""Seconds a request waits for the database before it counts as a miss."""
OFF_SECONDS = 10.0
"""So long after a look no other is taken whether a cache that was turned off is on again."""
MOST_OFF = 4096
AWAY = (psycopg.Error, PoolTimeout, TooManyRequests, OSError)

logger = log.get("semantic")
Embed = Callable[[str], Awaitable[Sequence[float] | None]]


class Looked(NamedTuple):
    """`found` None is a miss. `embedding` is passed to `keep`, None: there is none to keep by."""

    found: Neighbour | None
    embedding: Sequence[float] | None


class SemanticCache:
    """One per gateway process; what it knows is in PostgreSQL."""

    def __init__(
        self, pool: Callable[[], Pool | None], room: Room = ROOM, clock: Clock | None = None
    ) -> None:
        self._pool = pool
        self._room = room
        self._clock = clock or SystemClock()
        self._kept = 0
        self._off_until: OrderedDict[str, float] = OrderedDict()
        """Projects whose cache a check turned off, and until when that is believed."""

    async def look(self, question: Question, settings: Settings, embed: Embed) -> Looked:
        """The nearest kept question that asks for the same. Never raises for the database."""
        pool = self._pool()
        if pool is None or not settings.enabled:
            return Looked(None, None)
        if self._off_until.get(question.project, 0.0) > self._clock.now():
            return Looked(None, None)
        embedding = await embed(question.text)
        if embedding is None:
            return Looked(None, None)
        try:
            async with asyncio.timeout(WITHIN):
                near = await semantic.nearest(pool, question, embedding, settings.threshold)
                found = first_admitted(question, near)
                if found is not None:
                    await semantic.count_hit(pool, question.project, found.id)
                elif not near:
                    await self._notice_off(pool, question.project)
        except AWAY as error:
            logger.warning("cannot look", error=str(error))
            return Looked(None, embedding)
        return Looked(found, embedding)

    async def _notice_off(self, pool: Pool, project: str) -> None:
        """A cache that a check turned off finds nothing, and needs no embeddings for that."""
        async with pool.connection() as connection:
            trial = await semantic.find_trial(connection, project)
        if trial.off_since is None:
            self._off_until.pop(project, None)
            return
        self._off_until[project] = self._clock.now() + OFF_SECONDS
        if len(self._off_until) > MOST_OFF:
            self._off_until.popitem(last=False)

    async def keep(
        self, question: Question, embedding: Sequence[float] | None, answer: bytes
    ) -> bool:
        """Whether the answer is kept; a large one is not, nor one without an embedding."""
        pool = self._pool()
        if pool is None or embedding is None or len(answer) > LARGEST_ANSWER:
            return False
        try:
            await semantic.keep(pool, question, embedding, answer, self._room)
            self._kept += 1
            if self._kept % TRIM_EVERY == 0:
                await semantic.trim(pool, question.project, self._room)
                await semantic.purge_expired(pool)
        except AWAY as error:
            logger.warning("cannot keep", error=str(error))
            return False
        return True

    async def purge_expired(self) -> None:
        """Drops what is too old, of all projects. Never raises for the database."""
        pool = self._pool()
        if pool is None:
            return
        try:
            await semantic.purge_expired(pool)
        except AWAY as error:
            logger.warning("cannot drop what is too old", error=str(error))


def first_admitted(question: Question, near: Sequence[Neighbour]) -> Neighbour | None:
    """The nearest neighbour that the guard admits."""
    for neighbour in near:
        verdict = admits(question.text, neighbour.question)
        logger.debug(
            "neighbour",
            hit=verdict.hit,
            why=verdict.why,
            similarity=round(neighbour.similarity, 3),
            project=question.project,
        )
        if verdict.hit:
            return neighbour
    return None
