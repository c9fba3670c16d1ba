"""GET /v1/models and /v1/models/{id}, DELETE of a tuned one; an id may hold `/` and `:`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from msgspec import UNSET

from gateway.exchange import JSON, Exchange
from gateway.routes.admission import permits, visible
from gateway.sightings import BEST_FIRST
from shared.catalog import Catalog, Entry
from shared.errors import ModelNotAllowed, PermissionDenied
from shared.wire.node import ModelReport, ModelState, WorkerState
from shared.wire.openai.model import Extension, ModelList, ModelObject

HOLDS: tuple[ModelState, ...] = ("loading", "ready", "draining")


class ModelRoute:
    """`delete` removes a model that fine-tuning made."""

    def __init__(
        self,
        catalog: Catalog,
        workers: Callable[[], list[WorkerState]],
        delete: Callable[[Exchange, str], Awaitable[None]],
    ) -> None:
        self._catalog = catalog
        self._workers = workers
        self._delete = delete
        self._created = int(time.time())

    async def __call__(self, exchange: Exchange) -> None:
        """The list at the mount itself, one model below it."""
        rest = exchange.path.partition("/v1/models")[2]
        if exchange.method == "DELETE":
            await self._remove(exchange, rest.removeprefix("/"))
            return
        if rest in ("", "/"):
            await self._list(exchange)
        elif rest.startswith("/"):
            await self._one(exchange, rest[1:])
        else:
            raise exchange.unknown()

    async def _remove(self, exchange: Exchange, name: str) -> None:
        if not name.startswith("ft:"):
            entry = visible(self._catalog, exchange.account, name)
            raise PermissionDenied(f"{entry.name!r} is not a tuned model.", param="model")
        await self._delete(exchange, name)

    async def _list(self, exchange: Exchange) -> None:
        data = [
            self._told(entry)
            for entry in self._catalog.named()
            if permits(self._catalog, exchange.account, entry)
        ]
        await exchange.respond(200, msgspec.json.encode(ModelList(data=data)), JSON)

    async def _one(self, exchange: Exchange, name: str) -> None:
        entry = visible(self._catalog, exchange.account, name)
        if not permits(self._catalog, exchange.account, entry):
            raise ModelNotAllowed(f"This key may not use the model {name!r}.", param="model")
        await exchange.respond(200, msgspec.json.encode(self._told(entry)), JSON)

    def _told(self, entry: Entry) -> ModelObject:
        base = UNSET if entry.adapter is None else entry.base
        return ModelObject(
            id=entry.name,
            created=self._created,
            root=base,
            parent=base,
            aihub=extension(entry, self._workers()),
        )


def extension(entry: Entry, workers: Sequence[WorkerState]) -> Extension:
    """An adapter is where its base's engine has it."""
    found = [(w.device.name, w.models[entry.base]) for w in workers if entry.base in w.models]
    states = {standing(entry, report) for _, report in found}
    holding = {device for device, report in found if standing(entry, report) in HOLDS}
    return Extension(
        state=min(states, key=BEST_FIRST.index) if states else "unserved",
        devices=sorted(holding),
        engine=entry.model.engine,
        kind=entry.model.kind,
        context=entry.model.context,
        aliases=entry.model.aliases if entry.adapter is None else (),
        capabilities=entry.model.capabilities,
    )


def standing(entry: Entry, report: ModelReport) -> ModelState:
    if entry.adapter is None or report.state == "failed":
        return report.state
    return report.adapters.get(entry.adapter.name, "absent")
