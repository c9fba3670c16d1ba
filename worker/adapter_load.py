"""Loads adapters into an engine, as far as there is room for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from pathlib import Path
from typing import Any

from shared import log
from shared.clock import Clock
from shared.errors import EngineFailed, HubError, ModelUnavailable
from worker.adapter_bytes import AdapterBytes, size_of
from worker.adapter_shelf import Shelf
from worker.adapting import Adapting
from worker.engines.base import Engine, EngineLost, Successive

logger = log.get("adapters")
Spawn = Callable[[Coroutine[Any, Any, None]], None]


class AdapterLoad:
    """Makes room by what is on the shelf; what it loads its caller puts there."""

    def __init__(
        self,
        engine: Engine,
        adapting: Adapting,
        bytes: AdapterBytes,
        shelf: Shelf,
        spawn: Spawn,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._adapting = adapting
        self._bytes = bytes
        self._shelf = shelf
        self._spawn = spawn
        self._clock = clock

    async def perform(
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

    def may_drop(self) -> bool:
        """Whether adapters can go without anybody waiting; if so `drop` must follow."""
        return not isinstance(self._engine, Successive) or self._bytes.double()

    async def drop(self, names: Collection[str]) -> None:
        """Unloads them, with the bytes of the process where that takes another one. Raises
        HubError and EngineLost."""
        engine = self._engine
        try:
            for name in names:
                await engine.unload_adapter(name)
            if isinstance(engine, Successive):
                engine.may_double = lambda: True
                await engine.load_adapters({})
        finally:
            if isinstance(engine, Successive):
                self._spawn(self._single(engine))

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
            if self._shelf.run != run:
                raise EngineLost("the engine has ended")
            short = self._bytes.book(self._shelf.bytes + bytes)
            name = self._shelf.idlest(self._clock.now())
            if not short or name is None:
                return short
            del self._shelf[name]
            await self._engine.unload_adapter(name)

    def _sizes(self, paths: Mapping[str, str]) -> dict[str, int]:
        folder = self._adapting.folder
        return {name: size_of(folder / Path(path).expanduser()) for name, path in paths.items()}
