"""GET /v1/models and /v1/models/{id}; an id may hold `/` and `:`."""

from __future__ import annotations

import time

import msgspec

from gateway.exchange import JSON, Exchange
from gateway.routes.admission import permits
from shared.catalog import Catalog, Entry
from shared.errors import ModelNotAllowed
from shared.wire.openai.model import ModelList, ModelObject


class ModelRoute:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._created = int(time.time())

    async def __call__(self, exchange: Exchange) -> None:
        """The list at the mount itself, one model below it."""
        rest = exchange.path.partition("/v1/models")[2]
        if rest in ("", "/"):
            await self._list(exchange)
        elif rest.startswith("/"):
            await self._one(exchange, rest[1:])
        else:
            raise exchange.unknown()

    async def _list(self, exchange: Exchange) -> None:
        data = [
            self._told(entry)
            for entry in self._catalog.named()
            if permits(self._catalog, exchange.account, entry)
        ]
        await exchange.respond(200, msgspec.json.encode(ModelList(data=data)), JSON)

    async def _one(self, exchange: Exchange, name: str) -> None:
        entry = self._catalog.find(name)
        if not permits(self._catalog, exchange.account, entry):
            raise ModelNotAllowed(f"This key may not use the model {name!r}.", param="model")
        await exchange.respond(200, msgspec.json.encode(self._told(entry)), JSON)

    def _told(self, entry: Entry) -> ModelObject:
        if entry.adapter is None:
            return ModelObject(id=entry.name, created=self._created)
        return ModelObject(id=entry.name, created=self._created, root=entry.base, parent=entry.base)
