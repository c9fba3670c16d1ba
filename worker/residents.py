"""Keeps the engines of one lane running: starts each, restarts what dies, says how it stands."""

from __future__ import annotations

import asyncio

from shared import log
from shared.errors import EngineFailed, HubError, ModelUnavailable
from shared.wire.node import ModelState
from worker.engines.base import Engine

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 30.0
WAIT_FOR_ENGINE = 60.0

logger = log.get("residents")


def pause(failures: int) -> float:
    """Seconds to wait before start number `failures` + 1."""
    return 0.0 if failures == 0 else float(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (failures - 1)))


class Resident:
    """One engine and its history."""

    def __init__(self, name: str, engine: Engine) -> None:
        self.name = name
        self.engine = engine
        self.state: ModelState = "loading"
        self.failures = 0
        self.why = ""
        self.ready = asyncio.Event()
        self.suspects = asyncio.Lock()


class Residents:
    def __init__(
        self, engines: dict[str, Engine], defaults: dict[str, dict[str, float | int]]
    ) -> None:
        self._defaults = defaults
        self._residents = {name: Resident(name, engine) for name, engine in engines.items()}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._keep(resident), name=f"keep-{resident.name}")
            for resident in self._residents.values()
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(r.engine.stop() for r in self._residents.values()))

    def defaults(self, model: str) -> dict[str, float | int]:
        """Request parameters for callers who give none."""
        return self._defaults.get(model, {})

    def suspects(self, model: str) -> asyncio.Lock:
        """Held by the one request that may find out whether it was what broke the engine."""
        return self._residents[model].suspects

    def states(self) -> dict[str, ModelState]:
        return {name: resident.state for name, resident in self._residents.items()}

    async def engine(self, model: str) -> Engine:
        """The model's engine once it answers; raises ModelUnavailable when it keeps failing."""
        resident = self._residents.get(model)
        if resident is None:
            raise ModelUnavailable(f"This worker does not serve {model!r}.", param="model")
        if resident.ready.is_set() and resident.engine.alive:
            return resident.engine
        resident.ready.clear()
        try:
            # Not wait_for: in Python 3.11 it loses a cancellation that comes with the event.
            async with asyncio.timeout(WAIT_FOR_ENGINE):
                await resident.ready.wait()
        except TimeoutError:
            why = resident.why or "it is still loading"
            raise ModelUnavailable(
                f"The engine of {model!r} is not available: {why}", param="model", retry_after=10
            ) from None
        return resident.engine

    async def _keep(self, resident: Resident) -> None:
        while True:
            await asyncio.sleep(pause(resident.failures))
            try:
                await resident.engine.start()
            except EngineFailed as error:
                self._failed(resident, error)
                continue
            except Exception as error:
                logger.exception("engine start broke", model=resident.name)
                self._failed(resident, EngineFailed(f"Internal error: {type(error).__name__}."))
                continue
            resident.state, resident.failures, resident.why = "ready", 0, ""
            resident.ready.set()
            logger.info("engine ready", model=resident.name)
            await resident.engine.ended()
            resident.ready.clear()
            resident.state = "loading"
            logger.warning("engine died, starting it again", model=resident.name)
            await resident.engine.stop()

    def _failed(self, resident: Resident, error: HubError) -> None:
        resident.failures += 1
        resident.state, resident.why = "failed", error.message
        logger.error(
            "engine did not start",
            model=resident.name,
            error=error.message,
            next_try_seconds=pause(resident.failures),
        )
