"""The adapters of one engine: loaded when they are asked for, kept while used, unloaded by use.

What to load and what to unload is decided in rotation.py; it happens here, one load at a time,
while other requests of the base go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path

from shared import log
from shared.clock import Clock
from shared.errors import HubError, InvalidValue
from shared.wire.node import AdapterState
from shared.wire.task import Adapter
from worker.adapter_bytes import AdapterBytes
from worker.adapter_lease import Lease, Lines
from worker.adapter_load import AdapterLoad, Spawn
from worker.adapter_past import Failures, Habits
from worker.adapter_shelf import Held, Shelf
from worker.adapting import Adapting
from worker.engines.base import Engine, EngineLost, Successive
from worker.rotation import Move, Rotation, decide

FIRST_GUESS = 1.0
TUNED = "tuned"
"""Beneath the home: what fine-tuning has published."""
SHORTEST, LONGEST = 0.02, 15.0
"""Seconds a load is taken for, whatever it was."""

logger = log.get("adapters")


class Adapters:
    def __init__(
        self, engine: Engine, adapting: Adapting, bytes: AdapterBytes, spawn: Spawn, clock: Clock
    ) -> None:
        self.load_seconds = FIRST_GUESS
        self._engine = engine
        self._adapting = adapting
        self._bytes = bytes
        self._spawn = spawn
        self._clock = clock
        self._up = False
        self._lines = Lines()
        self._loading: dict[str, str] = {}
        self._retiring = False
        self._failed = Failures()
        self._habits = Habits()
        self._held = Shelf(self._habits)
        self._loads = AdapterLoad(engine, adapting, bytes, self._held, spawn, clock)
        self._before = {one.name: one.path for one in adapting.listed}
        """What is loaded as soon as the engine answers: what it had last."""
        self._round_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def run(self) -> int:
        """Changes when the engine ends."""
        return self._held.run

    def take(self, adapter: Adapter) -> Lease | None:
        """A lease of an adapter that is there; None: it must be waited for.

        Raises InvalidValue where it could not be loaded a moment ago.
        """
        now = self._clock.now()
        self._habits.note(adapter.name, now, self.load_seconds)
        self._failed.check(adapter.name, now)
        held = self._held.get(adapter.name)
        if held is None or held.closed:
            return None
        return self._lease(adapter.name)

    async def wait(self, adapter: Adapter) -> Lease:
        """A lease, as soon as the adapter is there.

        Raises HubError where it cannot be loaded, with the engine's reason, EngineLost when the
        engine ends, QueueFull.
        """
        if not self._up:
            raise EngineLost("the engine has ended")
        waiting = self._lines.stand(adapter.name, adapter.path, self._clock.now())
        self._decide()
        try:
            return await waiting
        except asyncio.CancelledError:
            self._lines.leave(adapter.name, waiting)
            self._decide()
            raise

    def bring(self, adapter: Adapter) -> None:
        """Has it loaded before a request asks for it, or as soon as the engine answers.

        Raises HubError where it could not be loaded a moment ago.
        """
        if not self._up:
            self._before = {adapter.name: adapter.path, **self._before}
            return
        lease = self.take(adapter)
        if lease is None:
            self._spawn(self._fetch(adapter))
        else:
            lease.release()

    async def _fetch(self, adapter: Adapter) -> None:
        try:
            (await self.wait(adapter)).release()
        except (HubError, EngineLost) as error:
            logger.warning("not brought", adapter=adapter.name, error=str(error))

    def give_back(self, name: str) -> None:
        held = self._held[name]
        held.users -= 1
        held.used = self._clock.now()
        self._decide()

    async def prepare(self) -> None:
        """The engine is about to start; one that takes adapters only then gets what it had."""
        if isinstance(self._engine, Successive) and (paths := self._first()):
            for name, error in (await self._engine.load_adapters(paths)).items():
                self._fail(name, error)

    def began(self) -> None:
        """The engine answers: what it had before is loaded, or what the settings list."""
        self._up = True
        if paths := self._first():
            self._begin(paths, ())

    def _first(self) -> dict[str, str]:
        names = [name for name in self._before if name not in self._failed]
        return {name: self._before[name] for name in names[: self._adapting.bound]}

    def ended(self) -> None:
        """The engine has ended or sleeps; all leases are void. Idempotent."""
        if self._held:
            latest = sorted(self._held.items(), key=lambda pair: -pair[1].used)
            self._before = {name: held.path for name, held in latest}
        self._held.run += 1
        self._up = False
        self._held.clear()
        self._loading = {}
        self._bytes.end()
        self._lines.end()

    def states(self) -> dict[str, AdapterState]:
        """Those that the engine has, gets or could not get, by the engine's names."""
        return {
            **dict.fromkeys(self._failed.names(self._clock.now()), "failed"),
            **dict.fromkeys(self._held, "ready"),
            **dict.fromkeys(self._loading, "loading"),
        }

    def tuned(self) -> dict[str, Path]:
        """Those of fine-tuning that the engine has, or gets when it starts, and their files."""
        home = self._adapting.folder.parent / TUNED
        known = self._before | {name: held.path for name, held in self._held.items()}
        paths = {name: Path(path) for name, path in known.items()}
        return {name: path for name, path in paths.items() if path.is_relative_to(home)}

    def retire(self, gone: Collection[str]) -> list[str]:
        """Unloads those of them that nobody uses, whatever room there is; their names.

        The others stay until they are named again: what is used, and where a successor of the
        engine cannot have room beside it.
        """
        self._before = {name: path for name, path in self._before.items() if name not in gone}
        idle = [name for name in gone if name in self._held and not self._held[name].users]
        busy = self._retiring or self._loading or not self._up
        if not idle or busy or not self._loads.may_drop():
            return []
        self._retiring = True
        for name in idle:
            del self._held[name]
        self._spawn(self._retire(idle, self.run))
        return idle

    async def _retire(self, names: list[str], run: int) -> None:
        try:
            await self._loads.drop(names)
        except (EngineLost, HubError) as error:
            logger.warning("not unloaded", adapters=names, error=str(error))
        finally:
            self._retiring = False
        if self.run == run:
            self._bytes.book(self._held.bytes)
        self._decide()

    def _lease(self, name: str) -> Lease:
        self._held[name].users += 1
        return Lease(self, name, self.run)

    def _decide(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._up or self._loading or self._retiring:
            return
        now = self._clock.now()
        move = decide(self._rotation(), now)
        for name in move.close:
            self._held[name].closed = True
            self._round_at = now
        for name in move.reopen:
            self._held[name].closed = False
            self._admit(name)
        if move.load:
            self._carry_out(move)
        elif move.next_at is not None:
            later = max(0.0, move.next_at - now)
            self._timer = asyncio.get_running_loop().call_later(later, self._decide)

    def _rotation(self) -> Rotation:
        return Rotation(
            bound=self._adapting.bound,
            loaded=self._held.loaded(),
            wanted=self._lines.since,
            load_seconds=self.load_seconds,
            round_at=self._round_at,
            together=isinstance(self._engine, Successive),
        )

    def _carry_out(self, move: Move) -> None:
        paths = {name: self._lines.path(name) for name in move.load}
        self._begin(paths, move.unload)

    def _begin(self, paths: dict[str, str], unload: tuple[str, ...]) -> None:
        self._loading = paths
        for name in unload:
            del self._held[name]
        self._spawn(self._load(paths, unload, self.run))

    async def _load(self, paths: Mapping[str, str], unload: tuple[str, ...], run: int) -> None:
        """`run` is the one that it was decided in; what comes of it in another is forgotten."""
        together = isinstance(self._engine, Successive)
        groups = [dict(paths)] if together else [{name: path} for name, path in paths.items()]
        for group in groups:
            if self.run != run:
                return
            began = self._clock.now()
            sizes, errors = await self._loads.perform(group, unload, run)
            if self.run != run:
                return
            self._settle(group, sizes, errors, self._clock.now() - began)
            logger.info(
                "adapters", loaded=[n for n in group if n not in errors], unloaded=list(unload)
            )
            unload = ()
            self._loading = {n: path for n, path in self._loading.items() if n not in group}
        self._decide()

    def _settle(
        self,
        paths: Mapping[str, str],
        sizes: Mapping[str, int],
        errors: Mapping[str, Exception],
        seconds: float,
    ) -> None:
        if len(errors) < len(paths):
            seconds = min(LONGEST, max(SHORTEST, seconds))
            self.load_seconds += (seconds - self.load_seconds) / 2
        for name, path in paths.items():
            if name in errors:
                self._fail(name, errors[name])
            else:
                self._held[name] = Held(path, sizes[name], self._clock.now())
                self._failed.forget(name)
                self._admit(name)
        self._bytes.book(self._held.bytes)

    def _admit(self, name: str) -> None:
        self._lines.admit(name, lambda: self._lease(name))

    def _fail(self, name: str, error: Exception) -> None:
        if isinstance(error, InvalidValue):
            error = InvalidValue(error.message, param="model")
        if isinstance(error, HubError):
            logger.warning("adapter not loaded", adapter=name, error=str(error))
            if isinstance(error, InvalidValue):
                self._failed.note(name, self._clock.now(), error.message)
        self._lines.refuse(name, error)
