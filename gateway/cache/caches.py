"""Both caches together, as administrators see and empty them."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.cache.responses import AWAY, Responses
from shared.catalog import Catalog
from shared.db import Connection
from shared.errors import Unavailable
from shared.store import semantic
from shared.wire.admin import CacheStatus, Purged


class Caches:
    def __init__(self, responses: Responses, catalog: Catalog) -> None:
        self._responses = responses
        self._catalog = catalog

    async def status(self, connection: Connection) -> CacheStatus:
        """Raises Unavailable."""
        try:
            size = await self._responses.measure()
        except AWAY as error:
            raise away(error) from error
        answers, semantic_bytes = await semantic.measure_all(connection)
        return CacheStatus(
            answers=size.answers,
            bytes=size.bytes,
            most_bytes=self._responses.room.bytes,
            largest_bytes=self._responses.largest,
            seconds=self._responses.room.life_ms / 1000,
            semantic_answers=answers,
            semantic_bytes=semantic_bytes,
        )

    async def purge(
        self, connection: Connection, project: str | None = None, model: str | None = None
    ) -> Purged:
        """Drops the answers of a project, of a model, of both together, or all of them.

        A model goes with its adapters. What is being computed now is not kept either. Raises
        Unavailable.
        """
        models = self.named(model) if model is not None else None
        try:
            exact = await self._responses.purge(project or "", models or ())
        except AWAY as error:
            raise away(error) from error
        meant = await semantic.purge(connection, project=project, models=models)
        return Purged(project=project, model=model, exact=exact, semantic=meant)

    async def purge_meant(
        self, connection: Connection, project: str, model: str | None = None
    ) -> int:
        """The same of a project's semantic cache alone; how many answers went."""
        models = self.named(model) if model is not None else None
        try:
            await self._responses.mark_meant(project, models or ())
        except AWAY as error:
            raise away(error) from error
        return await semantic.purge(connection, project=project, models=models)

    def named(self, model: str) -> Sequence[str]:
        """What a model's answers are kept under: names, and for an adapter its versions.

        One that the hub does not have any more is taken at its word.
        """
        if model not in self._catalog:
            return [model]
        entry = self._catalog.find(model)
        if entry.adapter is not None:
            canary = () if entry.canary is None else (entry.canary.adapter.name,)
            return [entry.name, entry.adapter.name, *canary]
        adapters = (one.name for one in self._catalog.named() if one.base == entry.name)
        return [*dict.fromkeys((entry.name, *adapters))]


def away(error: Exception) -> Unavailable:
    return Unavailable(f"Nothing was changed: Redis does not answer ({error}).", retry_after=2)
