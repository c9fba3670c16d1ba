"""The semantic cache as a chat route uses it: look, then keep what was computed or check a hit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from gateway.dispatch import Dispatch
from gateway.semantic.background import Background
from gateway.semantic.cache import SemanticCache
from gateway.semantic.embedding import Embedder, cosine
from gateway.semantic.judge import Outcome, compare
from gateway.semantic.scope import question_of
from gateway.semantic.shadow import Shadow, by_chance
from shared.catalog import Catalog, Entry
from shared.db import Pool
from shared.store.semantic import Question
from shared.wire.account import Account
from shared.wire.task import Class

CHECK_WITHIN = 60.0
"""Seconds a check waits for the embedding of an answer."""
AGE_EVERY = 600.0
"""Seconds between two looks for answers that are too old."""
COMPARED = 2000
"""Characters of an answer that are embedded for a check."""

Compute = Callable[[], Awaitable[str | None]]


class Purges(Protocol):
    """When what is kept was dropped by order."""

    async def now(self) -> int | None:
        """A time to give to `purged`; None: it cannot be told."""

    async def purged(self, project: str, model: str, since_ms: int) -> bool:
        """Whether what was begun then must not be kept any more."""


class Hit(NamedTuple):
    """`answer` is what was given to `keep`; `similarity` the cosine of the two questions."""

    question: Question
    id: int
    known: str
    answer: bytes
    similarity: float


class Miss(NamedTuple):
    """`began_ms`: as Purges tell it, None: the answer cannot be kept."""

    question: Question
    embedding: Sequence[float] | None
    began_ms: int | None


class Semantic:
    """One per gateway process."""

    def __init__(
        self,
        pool: Callable[[], Pool | None],
        dispatch: Dispatch,
        catalog: Catalog,
        purges: Purges,
    ) -> None:
        self._cache = SemanticCache(pool)
        self.shadow = Shadow(pool, by_chance)
        self._purges = purges
        self._background = Background()
        self._embedder = Embedder(dispatch, catalog)

    async def look(
        self, body: bytes, entry: Entry, fingerprint: str, account: Account, service: Class
    ) -> Hit | Miss | None:
        """For one chat request, after the exact cache missed.

        `fingerprint` is that of the model with its adapter version. None: not on for the project,
        no embedding model, or the request has no question that can be compared.
        """
        settings = account.cache.semantic
        embedder = self._embedder.model(settings.model) if settings.enabled else None
        if embedder is None:
            return None
        question = question_of(
            body,
            project=account.project,
            model=entry.name,
            version=fingerprint,
            embedder=embedder.name,
        )
        if question is None:
            return None
        embed = partial(self._embedder.embed, embedder, account=account, service=service)
        found, embedding = await self._cache.look(question, settings, embed)
        if found is None:
            return Miss(question, embedding, await self._purges.now())
        return Hit(question, found.id, found.question, found.answer, found.similarity)

    async def keep(self, miss: Miss, answer: bytes) -> bool:
        """Whether the computed answer is kept; not if it was purged while it was computed."""
        asked, began = miss.question, miss.began_ms
        if began is None or await self._purges.purged(asked.project, asked.model, began):
            return False
        return await self._cache.keep(asked, miss.embedding, answer)

    def keep_soon(self, miss: Miss, answer: bytes) -> None:
        """The same in the background."""
        self._background.run(partial(self.keep, miss, answer))

    def check_soon(self, hit: Hit, account: Account, served: str, compute: Compute) -> None:
        """`check`, without a wait for the database."""
        self._background.run(partial(self.check, hit, account, served, compute))

    async def check(self, hit: Hit, account: Account, served: str, compute: Compute) -> bool:
        """Starts a check of a hit in the background if its turn has come; whether it did.

        `compute` answers the request itself, in the batch class; None: it failed.
        """
        judge = partial(self._judge, account, served, compute)
        settings = account.cache.semantic
        return await self.shadow.check(account.project, settings, hit.id, judge)

    async def age(self) -> None:
        """Drops what is too old, now and then, also of projects that turned the cache off."""
        while True:
            await self._cache.purge_expired()
            await asyncio.sleep(AGE_EVERY)

    async def drain(self) -> None:
        """Waits for what runs in the background."""
        await self._background.drain()
        await self.shadow.drain()

    async def stop(self) -> None:
        """Drops what runs in the background."""
        await self._background.stop()
        await self.shadow.stop()

    async def _judge(self, account: Account, served: str, compute: Compute) -> Outcome | None:
        computed = await compute()
        if computed is None:
            return None
        if compare(served, computed, None) == "same":
            return "same"
        entry = self._embedder.model(account.cache.semantic.model)
        if entry is None or not served or not computed:
            return compare(served, computed, None)
        vectors = [
            await self._embedder.embed(entry, text[:COMPARED], account, "batch", CHECK_WITHIN)
            for text in (served, computed)
        ]
        one, other = vectors
        near = None if one is None or other is None else cosine(one, other)
        return compare(served, computed, near)
