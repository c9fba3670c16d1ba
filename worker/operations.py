"""What moves a model, step by step: load, wake, sleep, stop. The scheduler orders one at a time.

Around each the device is measured, so that the next decision starts from what is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from shared import log
from shared.db import Pool
from shared.errors import EngineFailed
from worker.effect import Load, Sleep, Stop, Wake
from worker.occasion import Loaded, LoadFailed, Slept, Stopped, Woken
from worker.resident import NoRoom, Resident, last_words, ran_out
from worker.watch import Owner, Watch

logger = log.get("operations")


class Runs(Owner, Protocol):
    """Who decides, and knows which run of an engine is the present one."""

    async def prepare(self, model: str) -> None:
        """An engine is about to start."""

    def begun(self, model: str) -> None:
        """A run begins: its engine answers, and may die from now on."""

    def over(self, model: str) -> None:
        """The run is over, and with it every place in it."""

    def died(self, model: str, why: str) -> None:
        """The engine is gone, or as good as gone."""


class Operations:
    """Each ends with the event that answers its effect, also one that breaks: the device would wait
    for it for ever. What broke on its way up is stopped like an engine that died.
    """

    def __init__(
        self, residents: Mapping[str, Resident], watch: Watch, pool: Pool | None, runs: Runs
    ) -> None:
        self._residents = residents
        self._watch = watch
        self._pool = pool
        self._runs = runs

    async def perform(self, order: Load | Wake | Sleep | Stop) -> None:
        steps = {Load: self.load, Wake: self.wake, Sleep: self.sleep, Stop: self.stop}
        try:
            await steps[type(order)](order.model)
        except Exception as error:
            logger.exception("a step broke", step=type(order).__name__, model=order.model)
            if isinstance(order, Stop):
                self._runs.post(Stopped(self._runs.now, order.model))
            else:
                self._runs.died(order.model, last_words(error))

    async def load(self, model: str) -> None:
        resident, runs = self._residents[model], self._runs
        foreign = runs.state.foreign
        await self._watch.round()
        await runs.prepare(model)
        try:
            seconds = await resident.load()
        except NoRoom as error:
            logger.warning("not begun", model=model, why=error.message)
            if runs.state.foreign > foreign:
                # Others took its room since it was decided: it waits on, to be decided anew.
                runs.post(Stopped(runs.now, model))
            else:
                runs.post(LoadFailed(runs.now, model, error.message))
            return
        except EngineFailed as error:
            await self._fail(resident, error, foreign)
            return
        await self._watch.round()
        runs.begun(model)
        logger.info("loaded", model=model, bytes=resident.loaded, seconds=round(seconds, 2))
        runs.post(Loaded(runs.now, model, resident.reserved, seconds))

    async def _fail(self, resident: Resident, error: EngineFailed, foreign: int) -> None:
        """Where nobody else took the bytes that it missed, its estimate was too small."""
        await self._watch.release(resident)
        state = self._runs.state
        if ran_out(error.message) and state.foreign <= foreign:
            await resident.grow(state.capacity, self._pool)
            self._watch.plan(resident)
        self._runs.post(LoadFailed(self._runs.now, resident.name, error.message))

    async def wake(self, model: str) -> None:
        resident, runs = self._residents[model], self._runs
        foreign, plan = runs.state.foreign, runs.state.slots[model].plan
        await self._watch.round()
        try:
            seconds = await resident.wake()
        except NoRoom as error:
            logger.warning("not begun", model=model, why=error.message)
            if runs.state.foreign > foreign:
                runs.post(Slept(runs.now, model, plan.asleep_size, plan.host_size))
            else:
                runs.died(model, error.message)
            return
        except EngineFailed as error:
            runs.died(model, error.message)
            return
        await self._watch.round()
        runs.begun(model)
        runs.post(Woken(runs.now, model, seconds))

    async def sleep(self, model: str) -> None:
        resident, runs = self._residents[model], self._runs
        runs.over(model)
        await self._watch.round()
        try:
            host = await resident.sleep()
        except EngineFailed as error:
            runs.died(model, error.message)
            return
        await self._watch.round()
        self._watch.plan(resident)
        runs.post(Slept(runs.now, model, resident.held, host))

    async def stop(self, model: str) -> None:
        self._runs.over(model)
        resident = self._residents[model]
        await resident.remember(self._pool)
        await self._watch.release(resident)
        self._watch.plan(resident)
        self._runs.post(Stopped(self._runs.now, model))
