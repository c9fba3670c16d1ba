"""The memory of the stand-in for `ollama serve`: which models it holds, and for how long."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from shared.settings import Model, Settings
from worker.engines.llamacpp_server import LlamaServer

Body = dict[str, Any]
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
NEVER = datetime.max.replace(tzinfo=UTC)
DEFAULT_CONTEXT = 4096
BUSY = "server busy, please try again.  maximum pending requests exceeded"


class Complaint(Exception):
    """An error the server tells with `status`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Served(NamedTuple):
    """One model on the server's disk."""

    model: Model
    capabilities: tuple[str, ...]
    family: str


class Held:
    """One model in memory."""

    def __init__(self, server: LlamaServer, context: int) -> None:
        self.server = server
        self.context = context
        self.expires = NEVER
        self.timer: asyncio.TimerHandle | None = None


def seconds(keep_alive: Any) -> float:
    """Go's durations and plain numbers; negative means for ever. Default: five minutes."""
    if keep_alive is None:
        return 300.0
    if isinstance(keep_alive, str) and not keep_alive.lstrip("-").isdecimal():
        unit = "ms" if keep_alive.endswith("ms") else keep_alive[-1]
        return float(keep_alive.removesuffix(unit)) * UNITS[unit]
    return float(keep_alive)


class Memory:
    """Loads models as llama.cpp children when they are asked for, and ends them in time."""

    def __init__(self, models: dict[str, Served], settings: Settings) -> None:
        self.busy = False
        """Whether the queue is full (OLLAMA_MAX_QUEUE)."""
        self.held: dict[str, Held] = {}
        self._models = models
        self._settings = settings
        self._loading = asyncio.Lock()

    def find(self, body: Body) -> tuple[str, Served]:
        asked = str(body.get("model", ""))
        name = asked if ":" in asked else f"{asked}:latest"
        if name not in self._models:
            raise Complaint(404, f"model '{asked}' not found")
        return name, self._models[name]

    def file(self, served: Served) -> Path:
        return self._settings.folder / "models" / (served.model.file or "")

    async def runner(self, body: Body, needed: str = "", verb: str = "") -> LlamaServer:
        """The model's server, loaded where it is not; its time begins anew."""
        name, served = self.find(body)
        if needed and needed not in served.capabilities:
            raise Complaint(400, f'"{body["model"]}" does not support {verb}')
        if self.busy:
            raise Complaint(
                503, "server busy, please try again.  maximum pending requests exceeded"
            )
        context = (body.get("options") or {}).get("num_ctx", DEFAULT_CONTEXT)
        async with self._loading:
            held = self.held.get(name)
            if held is not None and held.context != context:
                await self.unload(name)
                held = None
            if held is None:
                entry = msgspec.structs.replace(served.model, context=context, threads=1)
                server = LlamaServer(name, entry, self._settings)
                await server.start()
                held = self.held[name] = Held(server, context)
        self._stay(name, held, seconds(body.get("keep_alive")))
        return held.server

    async def unload(self, name: str) -> None:
        held = self.held.pop(name, None)
        if held is not None:
            if held.timer is not None:
                held.timer.cancel()
            await held.server.stop()

    async def close(self) -> None:
        for name in list(self.held):
            await self.unload(name)

    def _stay(self, name: str, held: Held, keep: float) -> None:
        if held.timer is not None:
            held.timer.cancel()
        held.timer = None
        held.expires = NEVER
        if keep >= 0:
            loop = asyncio.get_running_loop()
            held.expires = datetime.now(UTC) + timedelta(seconds=keep)
            held.timer = loop.call_later(keep, lambda: loop.create_task(self.unload(name)))
