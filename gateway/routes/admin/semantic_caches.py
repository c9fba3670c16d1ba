"""The semantic cache of a project: how its trial stands, emptied, on again after it went off."""

from __future__ import annotations

from gateway.cache.caches import Caches
from gateway.routes.admin import projects
from gateway.routes.admin.desk import Call, Done
from gateway.semantic import shadow
from shared.store import semantic
from shared.store.audit import Change
from shared.wire.admin import Deleted
from shared.wire.semantic import SemanticStatus


async def find(call: Call) -> SemanticStatus:
    it = await projects.find(call)
    return await shadow.status(call.connection, it.id, it.cache.semantic)


async def purge(call: Call, caches: Caches) -> Done:
    """Drops what is kept for the project, with `?model=` only what that model answered.

    What is being computed now is not kept either.
    """
    model = call.query("model").one("model")
    it = await projects.find(call)
    before = await shadow.status(call.connection, it.id, it.cache.semantic)
    gone = await caches.purge_meant(call.connection, it.id, model)
    reply = Deleted(it.id, "semantic_cache.purged")
    if gone == 0:
        return Done(reply)
    after = await shadow.status(call.connection, it.id, it.cache.semantic)
    change = Change("semantic_cache.purged", it.id, before, after, it.id)
    return Done(reply, [change], announced=False)


async def restart(call: Call) -> Done:
    """Forgets the trial, which turns a cache that was turned off on again. Answers stay."""
    it = await projects.active(call, call.at("project"))
    before = await shadow.status(call.connection, it.id, it.cache.semantic)
    await semantic.restart(call.connection, it.id)
    after = await shadow.status(call.connection, it.id, it.cache.semantic)
    if after == before:
        return Done(after)
    change = Change("semantic_cache.restarted", it.id, before, after, it.id)
    return Done(after, [change], announced=False)
