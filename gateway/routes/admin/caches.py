"""What the caches hold, and emptying them, also when a project ends."""

from __future__ import annotations

from gateway.cache.caches import Caches
from gateway.routes.admin import projects
from gateway.routes.admin.desk import Call, Done, found
from shared.store import project
from shared.store.audit import Change
from shared.wire.admin import CacheStatus

EVERYTHING = "all"
"""The target of a purge of all projects."""


class CacheRoutes:
    def __init__(self, caches: Caches) -> None:
        self._caches = caches

    async def find(self, call: Call) -> CacheStatus:
        call.query()
        return await self._caches.status(call.connection)

    async def purge(self, call: Call) -> Done:
        """Drops what is kept of `?project=`, of `?model=`, of both together, or everything."""
        query = call.query("project", "model")
        id_, model = query.one("project"), query.one("model")
        if id_ is not None:
            found(await project.find(call.connection, id_), "project", id_)
        gone = await self._caches.purge(call.connection, id_, model)
        change = Change("cache.purged", id_ or EVERYTHING, None, gone, id_)
        return Done(gone, [change], announced=False)

    async def archive(self, call: Call) -> Done:
        """Archives a project; what was kept of it goes."""
        return await self._empty(call, await projects.archive(call))

    async def delete(self, call: Call) -> Done:
        """The same, with OpenAI's answer."""
        return await self._empty(call, await projects.delete(call))

    async def _empty(self, call: Call, done: Done) -> Done:
        if done.changes:
            await self._caches.purge(call.connection, call.at("project"))
        return done
