"""The child processes of one vLLM: start, sleep, end."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec

import worker
from shared.settings import Model, Settings
from shared.wire.node import LoadProgress
from worker.engines.base import EngineLost, Reservation
from worker.engines.exchange import Refused
from worker.engines.group import gone, members
from worker.engines.torch_server import TorchServer, stored
from worker.engines.upstream import Address, EngineUnreachable, Upstream
from worker.engines.vllm_arguments import command, environment, weights
from worker.engines.vllm_child import Options
from worker.engines.vllm_log import STARTING, progress
from worker.process import LONGEST_TAIL, Child, spawn

HEALTH_TIMEOUT = 5.0
GRACE = 10.0
"""Seconds between the polite signal and the certain one."""
GONE_TIMEOUT = 20.0
PAUSE = 0.1
SOCKET = "api"
LONGEST_FOLDER = 107 - len("/01234567-89ab-cdef-0123-456789abcdef")
"""Bytes: vLLM's processes meet on sockets named by UUIDs in it."""


class Sleeping(msgspec.Struct):
    is_sleeping: bool


def make_folder(sockets: Path) -> Path:
    """A 0700 folder for one server's sockets; elsewhere when the path of `sockets` is long."""
    sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
    prefix = f"vllm-{os.getpid()}-"
    short = len(os.fsencode(sockets)) + len(prefix) + 9 <= LONGEST_FOLDER
    return Path(tempfile.mkdtemp(prefix=prefix, dir=sockets if short else None))


def sweep(sockets: Path) -> None:
    """Remove the folders of workers that ended without doing so."""
    for folder in sockets.glob("vllm-*-*"):
        owner = folder.name.split("-")[1]
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(folder, ignore_errors=True)


class VllmServer(TorchServer):
    def __init__(
        self, name: str, model: Model, settings: Settings, reservation: Reservation | None
    ) -> None:
        super().__init__(name, model, settings, reservation, "vllm")
        self._progress: LoadProgress | None = None

    def progress(self) -> LoadProgress | None:
        if self._progress is not None and self._child is not None and self._upstream is None:
            self._progress = progress(self._child.tail(2 * LONGEST_TAIL), self._progress)
        return self._progress

    @property
    def folder(self) -> Path:
        """Its own, as long as it runs."""
        assert self._place is not None
        return self._place

    def grant(self, bytes: int) -> None:
        if (given := self._reservation) is not None:
            # Of a cache that is not full yet, not all may show in what was measured.
            self._reservation = msgspec.structs.replace(given, granted=max(bytes, given.kv + 1))

    async def lost(self) -> bool:
        """Whether it can no longer answer: asked after a failure. Then `ended` returns."""
        upstream = self._upstream
        if upstream is not None and self.running:
            try:
                async with asyncio.timeout(HEALTH_TIMEOUT):
                    await upstream.call("GET", "/health")
                return False
            except (Refused, EngineLost, TimeoutError) as error:
                self._log.error("engine is not well", model=self._name, error=str(error))
        self._upstream = None
        self._progress = None
        self._over.set()
        return True

    async def _launch(self, reservation: Reservation) -> tuple[Child, Upstream]:
        sweep(self._sockets)
        folder = self._place = make_folder(self._sockets)
        child = self._child = await self._spawn(folder, reservation)
        child.exited.add_done_callback(lambda exited: self._exited(child, exited.result()))
        upstream = Upstream(Address(str(folder / SOCKET), "localhost", 0, ""))
        await self._answering(child, upstream)
        first = {"model": self._name, "prompt": "a", "max_tokens": 1}
        await upstream.call("POST", "/v1/completions", msgspec.json.encode(first))
        return child, upstream

    def _enter(self, phase: str | None) -> None:
        self._progress = LoadProgress(phase) if phase is not None else None

    async def _end(self, child: Child) -> None:
        await child.stop(GRACE)
        try:
            async with asyncio.timeout(GONE_TIMEOUT):
                await gone(child.pid)
        except TimeoutError:
            pids = members(child.pid)
            self._log.error("engine left processes", model=self._name, pids=pids)

    async def _sleeps(self, upstream: Upstream) -> bool | None:
        state = await upstream.call("GET", "/is_sleeping")
        return msgspec.json.decode(state, type=Sleeping).is_sleeping

    async def _answering(self, child: Child, upstream: Upstream) -> None:
        while True:
            if child.exited.done():
                raise EngineLost(f"it ended with status {child.exited.result()}")
            try:
                await upstream.call("GET", "/health")
                return
            except (EngineUnreachable, Refused):
                await asyncio.wait({child.exited}, timeout=PAUSE)

    async def _spawn(self, folder: Path, given: Reservation) -> Child:
        model = self._model
        source = await asyncio.to_thread(weights, model, self._models)
        size = await asyncio.to_thread(stored, Path(source))
        self._progress = LoadProgress(STARTING, 0, size)
        options = Options(
            argv=command(self._name, model, source, folder / SOCKET, given),
            folder=str(folder),
            parent=os.getpid(),
        )
        return await spawn(
            [
                *(sys.executable, "-m", "worker.engines.vllm_child"),
                msgspec.json.encode(options).decode(),
            ],
            environment=environment(model, source, folder, given, os.cpu_count() or 1),
            folder=Path(worker.__file__).parents[1],
        )
