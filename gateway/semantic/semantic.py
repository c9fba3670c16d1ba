"""The semantic cache as a chat route uses it: look, then keep what was computed or check a hit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

from gateway.dispatch import Dispatch
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
COMPARED = 2000
"""Characters of an answer that are embedded for a check."""

Compute = Callable[[], Awaitable[str | None]]


class Hit(NamedTuple):
    """`answer` is what was given to `keep`; `similarity` the cosine of the two questions."""

    question: Question
    id: int
    known: str
    answer: bytes
    similarity: float


class Miss(NamedTuple):
    question: Question
    embedding: Sequence[float] | None


class Semantic:
    """One per gateway process."""

    def __init__(
        self, pool: Callable[[], Pool | None], dispatch: Dispatch, catalog: Catalog
    ) -> None:
        self._cache = SemanticCache(pool)
        self._shadow = Shadow(pool, by_chance)
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
            return Miss(question, embedding)
        return Hit(question, found.id, found.question, found.answer, found.similarity)

    async def keep(self, miss: Miss, answer: bytes) -> bool:
        """Whether the computed answer is kept."""
        return await self._cache.keep(miss.question, miss.embedding, answer)

    async def check(self, hit: Hit, account: Account, served: str, compute: Compute) -> bool:
        """Starts a check of a hit in the background if its turn has come; whether it did.

        `compute` answers the request itself, in the batch class; None: it failed.
        """
        judge = partial(self._judge, account, served, compute)
        settings = account.cache.semantic
        return await self._shadow.check(account.project, settings, hit.id, judge)

    async def drain(self) -> None:
        """Waits for the checks that run."""
        await self._shadow.drain()

    async def stop(self) -> None:
        """Drops the checks that run."""
        await self._shadow.stop()

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
