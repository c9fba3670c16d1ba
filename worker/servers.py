"""Servers whose models are offered by themselves: asked again and again what they have.

What a server told last stands while it does not answer, for a bounded time. The loop is brought in
line with it in every round, so a model that is still draining when it comes back is not lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from msgspec.structs import replace

from shared import log
from shared.catalog import Catalog, Entry
from shared.clock import Clock
from shared.errors import EngineFailed
from shared.offers import spell
from shared.settings import Model
from shared.wire.node import Offered
from worker.engines.base import EngineLost
from worker.engines.exchange import Refused
from worker.engines.ollama_catalog import OllamaCatalog
from worker.inventory import plan
from worker.loop import Loop
from worker.occasion import Restored
from worker.resident import Resident

ASK_EVERY = 3.0
"""Seconds between two looks at what a server has."""
ANSWER_WITHIN = 30.0
"""Seconds for one look: the first one asks for each model."""
KEPT = 600.0
"""Seconds that the models of a server that does not answer are offered."""

Make = Callable[[Entry], Awaitable[Resident]]

logger = log.get("servers")


class Server:
    """One table of the settings and what its server told."""

    def __init__(self, table: str, template: Model) -> None:
        self.table = table
        self.url = template.url
        self.catalog = OllamaCatalog(template.url)
        self.told: tuple[Offered, ...] | None = None
        """None: it has not answered yet."""
        self.away = False
        self.heard = 0.0
        """When it answered last."""
        self.made: dict[str, Model] = {}
        """Its models in the loop, and what each was made of."""


class Servers:
    """Those of one lane. `make` builds the resident of an entry, not started."""

    def __init__(self, catalog: Catalog, lane: str, make: Make, loop: Loop, clock: Clock) -> None:
        self._catalog = catalog
        self._make = make
        self._loop = loop
        self._clock = clock
        self._servers = [
            Server(name, model) for name, model in catalog.servers.items() if model.lane == lane
        ]

    def offered(self) -> dict[str, tuple[Offered, ...]]:
        """By table, what is offered of each server that has answered."""
        known = {(entry.server, entry.name) for entry in self._catalog if entry.server}
        return {
            s.table: tuple(o for o in s.told if (s.table, spell(s.table, o.name)) in known)
            for s in self._servers
            if s.told is not None
        }

    async def run(self) -> None:
        """Asks until it is cancelled; waits for that where there is no server."""
        await asyncio.gather(asyncio.Event().wait(), *map(self._watch, self._servers))

    async def _watch(self, server: Server) -> None:
        while True:
            try:
                await self.look(server)
            except Exception:
                logger.exception("a look at a server broke", models=server.table)
            await asyncio.sleep(ASK_EVERY)

    async def look(self, server: Server) -> None:
        """One round: what the server has is offered, and nothing else of it."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                told: Sequence[Offered] | None = await server.catalog.read()
        except (TimeoutError, EngineLost, EngineFailed, Refused, msgspec.MsgspecError) as error:
            told = self._absent(server, str(error) or "no answer in time")
        else:
            self._present(server)
        if told is not None:
            server.told = tuple(told)
            self._catalog.learn(server.table, server.told)
        await self._align(server)

    def _present(self, server: Server) -> None:
        """Loads that failed while it was away are tried again without a pause."""
        if server.away or server.told is None:
            logger.info("server answers", models=server.table, url=server.url)
            for name in server.made:
                if name in self._loop.residents:
                    self._loop.post(Restored(self._loop.now, name))
        server.away, server.heard = False, self._clock.now()

    def _absent(self, server: Server, why: str) -> Sequence[Offered] | None:
        """What is offered from now on; None: what was."""
        if not server.away:
            logger.warning("server does not answer", models=server.table, why=why)
        server.away = True
        over = bool(server.told) and self._clock.now() - server.heard > KEPT
        return () if over else None

    async def _align(self, server: Server) -> None:
        """The loop has what is offered, made as it is offered now."""
        wanted = {e.name: e for e in self._catalog if e.server == server.table}
        for name, model in list(server.made.items()):
            if name not in self._loop.residents:
                del server.made[name]
            elif name not in wanted or differs(model, wanted[name].model):
                self._loop.withdraw(name)
        for name, entry in wanted.items():
            if name not in self._loop.residents:
                resident = await self._make(entry)
                server.made[name] = entry.model
                self._loop.offer(resident, plan(entry, resident))


def differs(made: Model, now: Model) -> bool:
    """Whether an engine has to be made anew; what callers are told of a model is not in it."""
    return replace(made, aliases=now.aliases, capabilities=now.capabilities) != now
