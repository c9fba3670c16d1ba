"""GET /v1/models and /v1/models/{id}; an id may hold `/` and `:`."""

from __future__ import annotations

import time

import msgspec

from gateway.exchange import JSON, Exchange
from shared.catalog import Catalog
from shared.wire.openai.model import ModelList, ModelObject

PATHS = ("/v1/models/", "/api/v1/models/")


class ModelRoutes:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._created = int(time.time())

    async def list(self, exchange: Exchange) -> None:
        data = [ModelObject(id=entry.name, created=self._created) for entry in self._catalog]
        await exchange.respond(200, msgspec.json.encode(ModelList(data=data)), JSON)

    async def one(self, exchange: Exchange) -> None:
        prefix = next(path for path in PATHS if exchange.path.startswith(path))
        entry = self._catalog.find(exchange.path.removeprefix(prefix))
        found = ModelObject(id=entry.name, created=self._created)
        await exchange.respond(200, msgspec.json.encode(found), JSON)
