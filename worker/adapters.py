"""The adapters of one engine: loaded when they are asked for, kept while used, unloaded by use.

What to load and what to unload is decided in rotation.py; it happens here, one load at a time,
while other requests of the base go on.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from shared import log
from shared.clock import Clock
from shared.errors import EngineFailed, HubError, InvalidValue, ModelUnavailable, QueueFull
from shared.wire.node import AdapterState
from shared.wire.task import Adapter
from worker.adapter_bytes import AdapterBytes, size_of
from worker.adapting import Adapting
from worker.engines.base import Engine, EngineLost, Successive
from worker.rotation import Loaded, Move, Rotation, decide, usual

MOST_WAITING = 256
"""Requests of one model that may wait for adapters."""
MOST_HABITS = 4096
"""Adapters whose last use is remembered."""
MOST_FAILED = 256
RETRY = 10.0
"""Seconds for which an adapter that could not be loaded is not tried again."""
FIRST_GUESS = 1.0
SHORTEST, LONGEST = 0.02, 15.0
"""Seconds a load is taken for, whatever it was."""

logger = log.get("adapters")
Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Lease:
    """A loaded adapter that stays until the lease is released, or its engine ends."""

    def __init__(self, adapters: Adapters, name: str, run: int) -> None:
        self._adapters = adapters
        self.name = name
        self._run = run
        self._released = False

    @property
    def valid(self) -> bool:
        """False once the engine that had the adapter has ended."""
        return not self._released and self._run == self._adapters.run

    def release(self) -> None:
        if self.valid:
            self._released = True
            self._adapters.give_back(self.name)


class Line:
    """Those who wait for one adapter."""

    def __init__(self, path: str, since: float) -> None:
        self.path = path
        self.since = since
        self.leases: list[asyncio.Future[Lease]] = []


class Held:
    """One that the engine has."""

    def __init__(self, path: str, bytes: int, since: float) -> None:
        self.path = path
        self.bytes = bytes
        self.since = self.used = since
        self.users = 0
        self.closed = False


class Habit(NamedTuple):
    """When an adapter was asked for last, and how often it is."""

    at: float
    every: float | None


class Adapters:
    def __init__(
        self, engine: Engine, adapting: Adapting, bytes: AdapterBytes, spawn: Spawn, clock: Clock
    ) -> None:
        self.run = 0
        """Changes when the engine ends."""
        self.load_seconds = FIRST_GUESS
        self._engine = engine
        self._adapting = adapting
        self._bytes = bytes
        self._spawn = spawn
        self._clock = clock
        self._up = False
        self._held: dict[str, Held] = {}
        self._lines: dict[str, Line] = {}
        self._loading: dict[str, str] = {}
        self._failed: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._habits: OrderedDict[str, Habit] = OrderedDict()
        self._before = {one.name: one.path for one in adapting.listed}
        """What is loaded as soon as the engine answers: what it had last."""
        self._round_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def take(self, adapter: Adapter) -> Lease | None:
        """A lease of an adapter that is there; None: it must be waited for.

        Raises InvalidValue where it could not be loaded a moment ago.
        """
        now = self._clock.now()
        self._note(adapter.name, now)
        until, why = self._failed.get(adapter.name, (0.0, ""))
        if now < until:
            raise InvalidValue(why, param="model")
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
        if sum(len(line.leases) for line in self._lines.values()) >= MOST_WAITING:
            raise QueueFull(f"{MOST_WAITING} requests wait for adapters already.", retry_after=5)
        line = self._lines.setdefault(adapter.name, Line(adapter.path, self._clock.now()))
        waiting: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        line.leases.append(waiting)
        self._decide()
        try:
            return await waiting
        except asyncio.CancelledError:
            self._leave(adapter.name, waiting)
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
        self.run += 1
        self._up = False
        self._held.clear()
        self._loading = {}
        self._bytes.end()
        lines, self._lines = self._lines, {}
        for line in lines.values():
            for waiting in line.leases:
                if not waiting.done():
                    waiting.set_exception(EngineLost("the engine has ended"))

    def states(self) -> dict[str, AdapterState]:
        """Those that the engine has, gets or could not get, by the engine's names."""
        now = self._clock.now()
        failed = [name for name, (until, _) in self._failed.items() if now < until]
        return {
            **dict.fromkeys(failed, "failed"),
            **dict.fromkeys(self._held, "ready"),
            **dict.fromkeys(self._loading, "loading"),
        }

    def _lease(self, name: str) -> Lease:
        self._held[name].users += 1
        return Lease(self, name, self.run)

    def _note(self, name: str, now: float) -> None:
        before = self._habits.pop(name, None)
        every = None
        if before is not None:
            every = usual(before.every, now - before.at, self.load_seconds)
        self._habits[name] = Habit(now, every)
        if len(self._habits) > MOST_HABITS:
            self._habits.popitem(last=False)

    def _leave(self, name: str, waiting: asyncio.Future[Lease]) -> None:
        """Somebody does not wait any more."""
        if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
            waiting.result().release()
        line = self._lines.get(name)
        if line is not None and waiting in line.leases:
            line.leases.remove(waiting)
            if not line.leases:
                del self._lines[name]
        self._decide()

    def _decide(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._up or self._loading:
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
        loaded = {}
        for name, held in self._held.items():
            habit = self._habits.get(name, Habit(held.since, None))
            loaded[name] = Loaded(
                since=held.since,
                used=max(held.used, habit.at),
                users=held.users,
                every=habit.every,
                closed=held.closed,
            )
        return Rotation(
            bound=self._adapting.bound,
            loaded=loaded,
            wanted={name: line.since for name, line in self._lines.items()},
            load_seconds=self.load_seconds,
            round_at=self._round_at,
            together=isinstance(self._engine, Successive),
        )

    def _carry_out(self, move: Move) -> None:
        paths = {name: self._lines[name].path for name in move.load}
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
            sizes, errors = await self._try(group, unload, run)
            if self.run != run:
                return
            self._settle(group, sizes, errors, self._clock.now() - began)
            logger.info(
                "adapters", loaded=[n for n in group if n not in errors], unloaded=list(unload)
            )
            unload = ()
            self._loading = {n: path for n, path in self._loading.items() if n not in group}
        self._decide()

    async def _try(
        self, paths: Mapping[str, str], unload: tuple[str, ...], run: int
    ) -> tuple[dict[str, int], dict[str, Exception]]:
        """Bytes of each, and the errors of those that are not loaded."""
        sizes = dict.fromkeys(paths, 0)
        try:
            for name in unload:
                await self._engine.unload_adapter(name)
            if self._adapting.counted:
                sizes = await asyncio.to_thread(self._sizes, paths)
            return sizes, await self._bring(paths, sizes, run)
        except (EngineLost, HubError) as error:
            return sizes, dict.fromkeys(paths, error)
        except Exception as error:
            logger.exception("a load broke", adapters=list(paths))
            failed = EngineFailed(f"Internal error: {type(error).__name__}.")
            return sizes, dict.fromkeys(paths, failed)

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
                self._failed.pop(name, None)
                self._admit(name)
        self._book()

    async def _bring(
        self, paths: Mapping[str, str], sizes: Mapping[str, int], run: int
    ) -> dict[str, Exception]:
        """Loads what there is room for; the error of each that is not loaded."""
        errors: dict[str, Exception] = {}
        fitting: dict[str, str] = {}
        for name, path in paths.items():
            want = sizes[name] + sum(sizes[other] for other in fitting)
            short = await self._make_room(want, run)
            if short:
                errors[name] = ModelUnavailable(
                    f"The adapter {name} needs {sizes[name]} bytes and {short} are missing.",
                    param="model",
                    retry_after=5,
                )
            else:
                fitting[name] = path
        if not fitting:
            return errors
        if isinstance(self._engine, Successive):
            return errors | await self._succeed(self._engine, fitting)
        found = await asyncio.gather(
            *(self._engine.load_adapter(name, path) for name, path in fitting.items()),
            return_exceptions=True,
        )
        results = zip(fitting, found, strict=True)
        return errors | {name: one for name, one in results if isinstance(one, Exception)}

    async def _succeed(self, engine: Successive, paths: dict[str, str]) -> dict[str, Exception]:
        """A successor of the engine's process, beside it if there are bytes for both."""
        doubled = self._bytes.double()
        engine.may_double = lambda: doubled
        try:
            return dict(await engine.load_adapters(paths))
        finally:
            if doubled:
                self._spawn(self._single(engine))

    async def _single(self, engine: Successive) -> None:
        await engine.single()
        self._bytes.single()

    async def _make_room(self, bytes: int, run: int) -> int:
        """Books so many bytes for adapters to come, at the cost of unused ones; what is missing."""
        while True:
            if self.run != run:
                raise EngineLost("the engine has ended")
            short = self._bytes.book(self._total() + bytes)
            now = self._clock.now()
            loaded = self._rotation().loaded
            idle = [name for name, one in loaded.items() if not one.users]
            if not short or not idle:
                return short
            name = max(idle, key=lambda one: loaded[one].off(now))
            del self._held[name]
            await self._engine.unload_adapter(name)

    def _total(self) -> int:
        return sum(held.bytes for held in self._held.values())

    def _book(self) -> None:
        self._bytes.book(self._total())

    def _sizes(self, paths: Mapping[str, str]) -> dict[str, int]:
        folder = self._adapting.folder
        return {name: size_of(folder / Path(path).expanduser()) for name, path in paths.items()}

    def _admit(self, name: str) -> None:
        """Those who waited for it have it."""
        line = self._lines.pop(name, None)
        for waiting in line.leases if line is not None else ():
            if not waiting.done():
                waiting.set_result(self._lease(name))

    def _fail(self, name: str, error: Exception) -> None:
        if isinstance(error, InvalidValue):
            error = InvalidValue(error.message, param="model")
        if isinstance(error, HubError):
            logger.warning("adapter not loaded", adapter=name, error=str(error))
            if isinstance(error, InvalidValue):
                self._failed[name] = (self._clock.now() + RETRY, error.message)
                if len(self._failed) > MOST_FAILED:
                    self._failed.popitem(last=False)
        line = self._lines.pop(name, None)
        for waiting in line.leases if line is not None else ():
            if not waiting.done():
                waiting.set_exception(error)
