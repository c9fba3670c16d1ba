"""Prices of models, in micro-units of money per million tokens and per GPU-second."""

from __future__ import annotations

import msgspec

from gateway.routes.admin.desk import Call, Done, found
from gateway.routes.admin.query import PAGE, of_window
from shared.catalog import Catalog
from shared.store import price
from shared.store.audit import Change
from shared.wire.account import Price
from shared.wire.admin import Deleted, PriceObject

PUT = msgspec.json.Decoder(Price)


class PriceRoutes:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def find(self, call: Call) -> PriceObject:
        model = call.at("model")
        return found(await price.find(call.connection, model), "price", model)

    async def select(self, call: Call) -> object:
        window = call.query(*PAGE).window()
        return of_window(await price.select(call.connection, window), window, "model")

    async def put(self, call: Call) -> Done:
        """The price of a model, by its name or an alias; raises ModelNotFound."""
        asked = call.body(PUT)
        model = self._catalog.find(call.at("model")).name
        before = await price.find(call.connection, model, lock=True)
        if before is not None and asked == Price(
            before.input, before.cached, before.output, before.gpu_second
        ):
            return Done(before)
        await price.put(call.connection, model, asked)
        after = await price.find(call.connection, model)
        return Done(after, [Change("price.updated", model, before, after)])

    async def delete(self, call: Call) -> Done:
        """Also of a model that is no more. From then on the model is free."""
        model = call.at("model")
        before = found(await price.find(call.connection, model, lock=True), "price", model)
        await price.delete(call.connection, model)
        return Done(Deleted(model, "price.deleted"), [Change("price.deleted", model, before)])
