"""Embeddings of questions by a model of the hub itself, for a short wait at most."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence
from math import sqrt

import msgspec

from gateway import errand
from gateway.dispatch import Dispatch
from gateway.worst import Worst, prompt
from shared import log
from shared.catalog import Catalog, Entry
from shared.errors import HubError
from shared.wire.account import Account
from shared.wire.event import Failed, Vectors
from shared.wire.task import Class

WITHIN = 1.0
"""Seconds a request waits for the embedding of its question before it counts as a miss."""

logger = log.get("semantic")
encode = msgspec.json.Encoder().encode


class Embedder:
    def __init__(self, dispatch: Dispatch, catalog: Catalog) -> None:
        self._dispatch = dispatch
        self._catalog = catalog

    def model(self, name: str | None) -> Entry | None:
        """The embedding model of that name, or the first one; None when there is none."""
        for entry in self._catalog:
            if entry.model.kind == "embedding" and name in (None, entry.name):
                return entry
        return None

    async def embed(
        self, entry: Entry, text: str, account: Account, service: Class, within: float = WITHIN
    ) -> Sequence[float] | None:
        """Of unit length. None when the model does not answer in time, which is logged."""
        body = encode({"model": entry.name, "input": text})
        try:
            async with asyncio.timeout(within):
                return await self._ask(entry, body, account, service)
        except (HubError, TimeoutError) as error:
            logger.info("no embedding", model=entry.name, error=str(error) or "not in time")
            return None

    async def _ask(
        self, entry: Entry, body: bytes, account: Account, service: Class
    ) -> Sequence[float] | None:
        most = Worst(prompt(len(body), entry.model, 1))
        reply = await errand.run(self._dispatch, "embedding", entry, body, account, service, most)
        try:
            while True:
                for item in await reply.items(WITHIN):
                    if isinstance(item, Vectors):
                        return unit(array("f", item.data[: item.width * 4]))
                    if isinstance(item, Failed):
                        logger.info("no embedding", model=entry.name, error=item.message)
                        return None
        finally:
            reply.close()


def unit(vector: Sequence[float]) -> Sequence[float]:
    length = sqrt(sum(value * value for value in vector))
    return [value / length for value in vector] if length else vector


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Of two vectors of unit length."""
    return sum(a * b for a, b in zip(one, other, strict=True))
