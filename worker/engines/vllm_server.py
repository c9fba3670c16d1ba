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
from shared import log
from shared.errors import EngineFailed
from shared.settings import Model, Settings
from shared.wire.node import LoadProgress
from worker.engines.base import EngineLost, Reservation
from worker.engines.group import gone, members
from worker.engines.refusal import clean, complaint
from worker.engines.upstream import Address, EngineUnreachable, Refused, Upstream
from worker.engines.vllm_arguments import command, environment, weights
from worker.engines.vllm_child import Options
from worker.engines.vllm_log import STARTING, last_words, progress
from worker.process import LONGEST_TAIL, Child, spawn

START_TIMEOUT = 1800.0
"""Seconds; a large model is read from a slow disk, or fetched."""
SLEEP_TIMEOUT = 120.0
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


def weight_bytes(folder: Path) -> int:
    """The size of the weights in a folder; 0 for a Hugging Face id."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


class VllmServer:
    """After `start`: `upstream` answers, unless it sleeps."""

    def __init__(
        self, name: str, model: Model, settings: Settings, reservation: Reservation | None
    ) -> None:
        self.asleep = False
        self._name = name
        self._model = model
        self._models = settings.folder / "models"
        self._sockets = settings.sockets
        self._reservation = reservation
        self._folder: Path | None = None
        self._child: Child | None = None
        self._progress: LoadProgress | None = None
        self._upstream: Upstream | None = None
        self._over = asyncio.Event()
        self._log = log.get("vllm")

    @property
    def running(self) -> bool:
        """Whether it is there, awake or asleep."""
        child = self._child
        return self._upstream is not None and child is not None and child.alive

    @property
    def upstream(self) -> Upstream:
        """Raises EngineLost when the server is not there, and when it sleeps.

        A sleeping vLLM takes requests and never answers them.
        """
        if self._upstream is None or not self.running:
            raise EngineLost("the engine is not running")
        if self.asleep:
            raise EngineLost("the engine sleeps")
        return self._upstream

    def pids(self) -> list[int]:
        return members(self._child.pid) if self._child is not None and self._child.pid else []

    def progress(self) -> LoadProgress | None:
        """None unless it starts, falls asleep or wakes up."""
        if self._progress is not None and self._child is not None and self._upstream is None:
            self._progress = progress(self._child.tail(2 * LONGEST_TAIL), self._progress)
        return self._progress

    async def ended(self) -> None:
        """Returns as soon as it is not running any more."""
        await self._over.wait()

    @property
    def folder(self) -> Path:
        """Its own, as long as it runs."""
        assert self._folder is not None
        return self._folder

    def grant(self, bytes: int) -> None:
        if (given := self._reservation) is not None:
            # Of a cache that is not full yet, not all may show in what was measured.
            self._reservation = msgspec.structs.replace(given, granted=max(bytes, given.kv + 1))

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
                await self._launch(self._reservation)
        except TimeoutError:
            raise await self._failure("was not ready in time") from None
        except (EngineLost, Refused, OSError) as error:
            raise await self._failure(f"could not be started: {error}") from error
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End every process and wait until they are gone. Idempotent."""
        self._upstream = None
        self._progress = None
        self.asleep = False
        self._over.set()
        child, self._child = self._child, None
        folder, self._folder = self._folder, None
        if child is not None:
            await child.stop(GRACE)
            await self._gone(child.pid)
        if folder is not None:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

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

    async def sleep(self) -> None:
        """Weights to host memory, the KV cache dropped; raises EngineFailed."""
        # First, so that nothing is sent to it from now on.
        self.asleep = True
        await self._turn("/sleep?level=1&mode=abort", asleep=True)

    async def wake(self) -> None:
        await self._turn("/wake_up", asleep=False)
        self.asleep = False

    async def _turn(self, path: str, *, asleep: bool) -> None:
        upstream = self._upstream
        if upstream is None or not self.running:
            raise EngineFailed(f"The engine of {self._name} is not running.")
        verb = "fall asleep" if asleep else "wake up"
        self._progress = LoadProgress("falling asleep" if asleep else "waking up")
        try:
            async with asyncio.timeout(SLEEP_TIMEOUT):
                await upstream.call("POST", path)
                state = await upstream.call("GET", "/is_sleeping")
        except (Refused, EngineLost, TimeoutError) as error:
            why = complaint(error.body).message if isinstance(error, Refused) else str(error)
            raise EngineFailed(
                f"The engine of {self._name} did not {verb}: {clean(why) or type(error).__name__}"
            ) from error
        finally:
            self._progress = None
        if msgspec.json.decode(state, type=Sleeping).is_sleeping != asleep:
            raise EngineFailed(f"The engine of {self._name} did not {verb}.")

    async def _launch(self, reservation: Reservation) -> None:
        sweep(self._sockets)
        folder = self._folder = make_folder(self._sockets)
        child = self._child = await self._spawn(folder, reservation)
        child.exited.add_done_callback(lambda exited: self._exited(child, exited.result()))
        upstream = Upstream(Address(str(folder / SOCKET), "localhost", 0, ""))
        await self._answering(child, upstream)
        first = {"model": self._name, "prompt": "a", "max_tokens": 1}
        await upstream.call("POST", "/v1/completions", msgspec.json.encode(first))
        self._over = asyncio.Event()
        self._upstream = upstream
        self._progress = None
        if not child.alive:
            self._over.set()
        self._log.info("engine ready", model=self._name, pid=child.pid)

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
        size = await asyncio.to_thread(weight_bytes, Path(source))
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

    def _exited(self, child: Child, status: int) -> None:
        if child is self._child and self._upstream is not None:
            self._over.set()
            self._log.error("engine died", model=self._name, status=status, said=child.tail(30))

    async def _gone(self, group: int) -> None:
        try:
            async with asyncio.timeout(GONE_TIMEOUT):
                await gone(group)
        except TimeoutError:
            self._log.error("engine left processes", model=self._name, pids=members(group))

    async def _failure(self, what: str) -> EngineFailed:
        child = self._child
        await self.stop()
        said = ""
        if child is not None:
            await child.drained()
            said = last_words(child.tail(400))
            self._log.error("engine failed", model=self._name, what=what, said=child.tail(40))
        return EngineFailed(f"The engine of {self._name} {what}. Its last words: {said or 'none'}")
