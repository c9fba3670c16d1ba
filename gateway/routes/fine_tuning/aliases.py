"""Aliases of tuned models: one name, whose target changes, with a canary and a way back."""

from __future__ import annotations

import msgspec

from gateway.routes.admin.desk import Call, Done, found
from gateway.routing import AUTO
from shared.catalog import Catalog
from shared.db import Connection
from shared.errors import Conflict, InvalidValue
from shared.store import tuned_model as store
from shared.store.audit import Change
from shared.wire.admin import Deleted
from shared.wire.openai.fine_tuning import AliasPut, ModelAlias

PUT = msgspec.json.Decoder(AliasPut)
LONGEST = 128
MOST = 100
"""Of one project; there is an end to those of all together."""


class AliasList(msgspec.Struct, frozen=True):
    data: list[ModelAlias]
    object: str = "list"


class Aliases:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def list(self, call: Call) -> AliasList:
        return AliasList(await store.aliases(call.connection, call.account.project))

    async def retrieve(self, call: Call) -> ModelAlias:
        return await find(call)

    async def put(self, call: Call) -> Done:
        """Makes an alias, or points it elsewhere: who asks from now on gets the new target."""
        asked, name = call.body(PUT), call.at("alias")
        await self._check_name(call, name)
        if (asked.canary is None) != (asked.share == 0):
            raise InvalidValue("'canary' and 'share' go together.", param="share")
        bases = {
            await base(call.connection, model, call.account.project, param)
            for param, model in (("target", asked.target), ("canary", asked.canary))
            if model is not None
        }
        if len(bases) > 1:
            raise InvalidValue("'target' and 'canary' have not the same base.", param="canary")
        before = await store.aliases(call.connection, call.account.project, name)
        if not before and len(await store.aliases(call.connection, call.account.project)) >= MOST:
            raise Conflict(f"The project has {MOST} aliases. Delete one first.", param="name")
        if not await store.put_alias(call.connection, name, call.account.project, asked):
            raise Conflict(f"The name {name!r} is taken.", param="name")
        after = await find(call)
        shown = Change(
            "model_alias.updated" if before else "model_alias.created",
            name,
            before[0] if before else None,
            after,
            call.account.project,
        )
        return Done(after, [shown], announced=False)

    async def rollback(self, call: Call) -> Done:
        """Back to the target before; a second time is forward again. A canary ends."""
        before = await held(call)
        if before.previous is None:
            raise Conflict(f"{before.name!r} never had another target.", param="name")
        return await self._point(call, before, before.previous, "rolled_back")

    async def promote(self, call: Call) -> Done:
        """The canary becomes the target."""
        before = await held(call)
        if before.canary is None:
            raise Conflict(f"{before.name!r} has no canary.", param="name")
        return await self._point(call, before, before.canary, "promoted")

    async def delete(self, call: Call) -> Done:
        before = await find(call)
        await store.delete_alias(call.connection, before.name, before.project)
        gone = Change("model_alias.deleted", before.name, before, project=before.project)
        return Done(Deleted(before.name, "model_alias.deleted"), [gone], announced=False)

    async def _point(self, call: Call, before: ModelAlias, target: str, what: str) -> Done:
        await base(call.connection, target, before.project, "name")
        await store.put_alias(call.connection, before.name, before.project, AliasPut(target))
        after = await find(call)
        shown = Change(f"model_alias.{what}", before.name, before, after, before.project)
        return Done(after, [shown], announced=False)

    async def _check_name(self, call: Call, name: str) -> None:
        if (
            len(name) > LONGEST
            or name.startswith("ft:")
            or name == AUTO
            or name != name.strip()
            or not name.isprintable()
        ):
            raise InvalidValue(f"An alias cannot be called {name!r}.", param="name")
        known = await store.aliases(call.connection, None, name)
        if not known and self._catalog.may_find(name):
            raise Conflict(f"The name {name!r} is taken.", param="name")


async def find(call: Call) -> ModelAlias:
    name = call.at("alias")
    rows = await store.aliases(call.connection, call.account.project, name)
    return found(rows[0] if rows else None, "alias", name)


async def held(call: Call) -> ModelAlias:
    """As `find`, and nobody else changes it until this transaction ends."""
    await store.lock_alias(call.connection, call.at("alias"), call.account.project)
    return await find(call)


async def base(connection: Connection, model: str, project: str, param: str) -> str:
    known = await store.lock(connection, model, project)
    if known is None:
        raise InvalidValue(f"{model!r} is no model of this project.", param=param)
    return known
