"""The child processes of one engine on torch, in an environment of its own: start, sleep, end.

What vLLM and transformers share; each says how its child is launched and what it tells of a load.
"""

from __future__ import annotations

import asyncio
import shutil
from abc import ABC, abstractmethod
from pathlib import Path

import msgspec

from shared import log
from shared.errors import EngineFailed
from shared.settings import Model, Settings
from shared.wire.node import LoadProgress
from worker.engines.base import EngineLost, Reservation
from worker.engines.exchange import Refused
from worker.engines.group import members
from worker.engines.refusal import clean, complaint
from worker.engines.upstream import Upstream
from worker.engines.vllm_log import last_words
from worker.process import Child

START_TIMEOUT = 1800.0
"""Seconds; a large model is read from a slow disk, or fetched."""
SLEEP_TIMEOUT = 120.0


class TorchServer(ABC):
    """After `start`: `upstream` answers, unless it sleeps."""

    def __init__(
        self,
        name: str,
        model: Model,
        settings: Settings,
        reservation: Reservation | None,
        engine: str,
    ) -> None:
        """`engine` is what its lines in the log are marked with."""
        self.asleep = False
        self._name = name
        self._model = model
        self._models = settings.folder / "models"
        self._sockets = settings.sockets
        self._reservation = reservation
        self._place: Path | None = None
        """Its socket, or the folder of its sockets; removed with it."""
        self._child: Child | None = None
        self._upstream: Upstream | None = None
        self._over = asyncio.Event()
        self._log = log.get(engine)

    @property
    def running(self) -> bool:
        """Whether it is there, awake or asleep."""
        child = self._child
        return self._upstream is not None and child is not None and child.alive

    @property
    def upstream(self) -> Upstream:
        """Raises EngineLost when the engine is not there, and when it sleeps.

        A sleeping vLLM takes requests and never answers them.
        """
        if self._upstream is None or not self.running:
            raise EngineLost("the engine is not running")
        if self.asleep:
            raise EngineLost("the engine sleeps")
        return self._upstream

    def pids(self) -> list[int]:
        return members(self._child.pid) if self._child is not None and self._child.pid else []

    @abstractmethod
    def progress(self) -> LoadProgress | None:
        """How far a start, a sleep or a wake is; None while there is none."""

    async def ended(self) -> None:
        """Returns as soon as it is not running any more."""
        await self._over.wait()

    def grant(self, bytes: int) -> None:
        """What the next start may take of the device, all in all."""
        if self._reservation is not None:
            self._reservation = msgspec.structs.replace(self._reservation, granted=bytes)

    async def start(self) -> None:
        """Raises EngineFailed with the child's last words."""
        if self.running:
            return
        await self.stop()
        if self._reservation is None:
            raise EngineFailed(f"The files of {self._name} cannot be read; the log says why.")
        python = self._model.python or ""
        if shutil.which(python) is None:
            raise EngineFailed(f"The model {self._name} has no interpreter at {python}.")
        try:
            async with asyncio.timeout(START_TIMEOUT):
                child, upstream = await self._launch(self._reservation)
        except TimeoutError:
            raise await self._failure("was not ready in time") from None
        except (EngineLost, Refused, OSError) as error:
            raise await self._failure(f"could not be started: {error}") from error
        except asyncio.CancelledError:
            await self.stop()
            raise
        self._enter(None)
        self._over = asyncio.Event()
        self._upstream = upstream
        if not child.alive:
            self._over.set()
        self._log.info("engine ready", model=self._name, pid=child.pid)

    async def stop(self) -> None:
        """End every process and wait until they are gone. Idempotent."""
        self._upstream = None
        self.asleep = False
        self._enter(None)
        self._over.set()
        child, self._child = self._child, None
        place, self._place = self._place, None
        if child is not None:
            await self._end(child)
        if place is not None:
            await asyncio.to_thread(remove, place)

    async def turn(self, path: str, *, asleep: bool) -> None:
        """To sleep or awake; raises EngineFailed."""
        upstream = self._upstream
        if upstream is None or not self.running:
            raise EngineFailed(f"The engine of {self._name} is not running.")
        # Before it falls asleep, so that nothing is sent to it from now on.
        self.asleep = True
        verb = "fall asleep" if asleep else "wake up"
        self._enter("falling asleep" if asleep else "waking up")
        try:
            async with asyncio.timeout(SLEEP_TIMEOUT):
                await upstream.call("POST", path)
                turned = await self._sleeps(upstream) in (None, asleep)
        except (Refused, EngineLost, TimeoutError) as error:
            why = complaint(error.body).message if isinstance(error, Refused) else str(error)
            raise EngineFailed(
                f"The engine of {self._name} did not {verb}: {clean(why) or type(error).__name__}"
            ) from error
        finally:
            self._enter(None)
        if not turned:
            raise EngineFailed(f"The engine of {self._name} did not {verb}.")
        self.asleep = asleep

    @abstractmethod
    async def _launch(self, reservation: Reservation) -> tuple[Child, Upstream]:
        """Spawns `_child`, with `_place` for its sockets; returns when requests are answered.

        Raises EngineLost, Refused, OSError.
        """

    @abstractmethod
    def _enter(self, phase: str | None) -> None:
        """What `progress` tells begins anew with this phase; None: nothing goes on."""

    async def _end(self, child: Child) -> None:
        await child.stop()

    async def _sleeps(self, upstream: Upstream) -> bool | None:
        """Whether it sleeps, by its own word; None: it does not tell."""
        return None

    def _exited(self, child: Child, status: int) -> None:
        """To be called when a child has ended."""
        if child is self._child and self._upstream is not None:
            self._over.set()
            self._log.error("engine died", model=self._name, status=status, said=child.tail(30))

    async def _failure(self, what: str) -> EngineFailed:
        child = self._child
        await self.stop()
        said = ""
        if child is not None:
            await child.drained()
            said = last_words(child.tail(400))
            self._log.error("engine failed", model=self._name, what=what, said=child.tail(40))
        return EngineFailed(f"The engine of {self._name} {what}. Its last words: {said or 'none'}")


def stored(folder: Path) -> int:
    """Bytes of the weights in a folder, 0 for an id."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def remove(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)
