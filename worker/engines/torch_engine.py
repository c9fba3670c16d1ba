"""What the engines on torch, vLLM and transformers, have in common: life, sleep, adapters."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import msgspec

from shared.errors import UnsupportedValue
from shared.settings import Model, Settings
from shared.wire.node import LoadProgress
from worker.engines.base import Reservation
from worker.engines.refusal import Subject
from worker.engines.torch_server import TorchServer
from worker.engines.vllm_adapter import check_adapter, refused

SUBJECTS: dict[str, Subject] = {"chat": "messages", "completion": "prompt"}


class TorchEngine(ABC):
    """The part of a base.Engine that does not generate."""

    title: ClassVar[str]
    """The engine's name for people."""
    to_sleep: ClassVar[str]
    """What is posted where to send it to sleep, and awake."""
    to_wake: ClassVar[str]

    def __init__(
        self,
        server: TorchServer,
        model: Model,
        settings: Settings,
        reservation: Reservation | None,
        *,
        can_adapt: bool,
        rank: int | None = None,
    ) -> None:
        """`rank` is the largest that an adapter may have; None: any."""
        self.can_sleep = reservation is not None and bool(reservation.device)
        self.can_adapt = can_adapt
        self._model = model
        self._models = settings.folder / "models"
        self._server = server
        self._rank = rank
        self._adapters: dict[str, Path] = {}
        """What the running engine has loaded; the caller bounds it by unloading."""
        self._adapting = asyncio.Lock()

    @property
    def alive(self) -> bool:
        return self._server.running and not self._server.asleep

    def pids(self) -> list[int]:
        return self._server.pids()

    def progress(self) -> LoadProgress | None:
        return self._server.progress()

    def grant(self, bytes: int) -> None:
        self._server.grant(bytes)

    async def start(self) -> None:
        if not self._server.running:
            self._adapters.clear()
        await self._server.start()

    async def stop(self) -> None:
        self._adapters.clear()
        await self._server.stop()

    async def ended(self) -> None:
        await self._server.ended()

    async def sleep(self) -> None:
        self._refuse_sleepless()
        if not self._server.asleep:
            await self._server.turn(self.to_sleep, asleep=True)

    async def wake(self) -> None:
        self._refuse_sleepless()
        if self._server.asleep:
            await self._server.turn(self.to_wake, asleep=False)

    async def load_adapter(self, name: str, path: str) -> None:
        if not self.can_adapt:
            raise UnsupportedValue("The engine of this model takes no adapters.", param="model")
        folder = self._models / path
        async with self._adapting:
            loaded = self._adapters.get(name)
            if loaded is not None and loaded != folder:
                raise refused(name, "another version has this name")
            if loaded is not None:
                return
            await asyncio.to_thread(check_adapter, name, folder, self._rank, self.title)
            await self._load(name, folder)
            self._adapters[name] = folder

    async def unload_adapter(self, name: str) -> None:
        async with self._adapting:
            if name in self._adapters:
                await self._unload(name)
                del self._adapters[name]

    @abstractmethod
    async def _load(self, name: str, folder: Path) -> None:
        """Has the engine load an adapter; raises InvalidValue, EngineLost."""

    @abstractmethod
    async def _unload(self, name: str) -> None:
        """Has it forget one; raises EngineFailed, EngineLost."""

    async def _post(self, path: str, told: object) -> bytes:
        return await self._server.upstream.call("POST", path, msgspec.json.encode(told))

    def _refuse_sleepless(self) -> None:
        if not self.can_sleep:
            raise UnsupportedValue(f"{self.title} cannot sleep on a CPU.", param="model")
