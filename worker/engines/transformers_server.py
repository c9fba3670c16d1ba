"""The child process of one model in transformers: start, sleep, end."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from shared import log
from shared.errors import EngineFailed
from shared.estimate import CONTEXT
from shared.load import PROMPT_PIECE
from shared.settings import Model, Settings
from shared.wire.node import LoadProgress
from worker.engines.base import EngineLost, Reservation
from worker.engines.group import members
from worker.engines.llamacpp_server import lives
from worker.engines.progress import MappedFile, file_bytes
from worker.engines.refusal import clean
from worker.engines.upstream import Address, Refused, Upstream
from worker.engines.vllm_arguments import weights
from worker.engines.vllm_log import last_words
from worker.process import Child, spawn

BOOTSTRAP = Path(__file__).with_name("transformers_child") / "bootstrap.py"
READY = "ready"
READING = "reading weights"
WARMING = "warming up"
"""Lines that the child writes as it goes on."""
START_TIMEOUT = 1800.0
"""Seconds; a large model is read from a slow disk, or fetched."""
SLEEP_TIMEOUT = 120.0


def sweep(sockets: Path) -> None:
    """Remove the sockets of workers that ended without doing so."""
    for socket in sockets.glob("torch-*-*.sock"):
        owner = socket.name.split("-")[1]
        if owner.isdecimal() and not lives(int(owner)):
            socket.unlink(missing_ok=True)


class TransformersServer:
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
        self._socket: Path | None = None
        self._child: Child | None = None
        self._upstream: Upstream | None = None
        self._over = asyncio.Event()
        self._phase: str | None = None
        self._weights: MappedFile | None = None
        self._log = log.get("transformers")

    @property
    def running(self) -> bool:
        """Whether it is there, awake or asleep."""
        child = self._child
        return self._upstream is not None and child is not None and child.alive

    @property
    def upstream(self) -> Upstream:
        """Raises EngineLost when the child is not there, and when it sleeps."""
        if self._upstream is None or not self.running:
            raise EngineLost("the engine is not running")
        if self.asleep:
            raise EngineLost("the engine sleeps")
        return self._upstream

    def pids(self) -> list[int]:
        return members(self._child.pid) if self._child is not None and self._child.pid else []

    def progress(self) -> LoadProgress | None:
        """How far a start, a sleep or a wake is, None while there is none."""
        if self._phase is None or self._weights is None or self._child is None:
            return LoadProgress(self._phase) if self._phase is not None else None
        resident = file_bytes(self._child.pid)
        if resident is None:
            return LoadProgress(self._phase)
        return msgspec.structs.replace(self._weights.progress(resident), phase=self._phase)

    async def ended(self) -> None:
        """Returns as soon as it is not running any more."""
        await self._over.wait()

    def grant(self, bytes: int) -> None:
        if self._reservation is not None:
            self._reservation = msgspec.structs.replace(self._reservation, granted=bytes)

    async def start(self) -> None:
        """Raises EngineFailed with the child's last words."""
        if self.running:
            return
        await self.stop()
        if self._reservation is None:
            raise EngineFailed(f"The files of {self._name} cannot be read; the log says why.")
        if shutil.which(self._model.python or "") is None:
            raise EngineFailed(
                f"The model {self._name} has no interpreter at {self._model.python}."
            )
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await self._launch(self._reservation)
        except TimeoutError:
            raise await self._failure("was not ready in time") from None
        except (EngineLost, OSError) as error:
            raise await self._failure(f"could not be started: {error}") from error
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the child and all it started. Idempotent."""
        self._upstream = None
        self._phase = self._weights = None
        self.asleep = False
        self._over.set()
        child, self._child = self._child, None
        socket, self._socket = self._socket, None
        if child is not None:
            await child.stop()
        if socket is not None:
            socket.unlink(missing_ok=True)

    async def turn(self, path: str, *, asleep: bool) -> None:
        """To sleep or awake; raises EngineFailed."""
        upstream = self._upstream
        if upstream is None or not self.running:
            raise EngineFailed(f"The engine of {self._name} is not running.")
        # Before falling asleep, so that nothing is sent to it from now on.
        self.asleep = True
        self._phase = "falling asleep" if asleep else "waking up"
        try:
            async with asyncio.timeout(SLEEP_TIMEOUT):
                await upstream.call("POST", path)
        except (Refused, EngineLost, TimeoutError) as error:
            verb = "fall asleep" if asleep else "wake up"
            raise EngineFailed(
                f"The engine of {self._name} did not {verb}: {clean(str(error))}"
            ) from error
        finally:
            self._phase = None
        self.asleep = asleep

    async def _launch(self, reservation: Reservation) -> None:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def heard(line: str) -> None:
            if line == READY and not ready.done():
                ready.set_result(None)
            elif line in (READING, WARMING):
                self._reach(line, size)

        source = await asyncio.to_thread(weights, self._model, self._models)
        size = await asyncio.to_thread(stored, Path(source))
        self._phase = "starting torch"
        self._sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep(self._sockets)
        self._socket = self._sockets / f"torch-{os.getpid()}-{os.urandom(4).hex()}.sock"
        child = self._child = await self._spawn(source, self._socket, reservation, heard)
        child.exited.add_done_callback(lambda exited: self._exited(child, exited.result(), ready))
        await ready
        self._phase = self._weights = None
        self._over = asyncio.Event()
        self._upstream = Upstream(Address(str(self._socket), "localhost", 0, ""))
        if not child.alive:
            self._over.set()
        self._log.info("engine ready", model=self._name, pid=child.pid)

    async def _spawn(
        self, source: str, socket: Path, reservation: Reservation, heard: Callable[[str], None]
    ) -> Child:
        model = self._model
        threads = model.threads or max(1, (os.cpu_count() or 2) // 2)
        options = {
            "weights": source,
            "socket": str(socket),
            "parent": os.getpid(),
            "embedding": model.kind == "embedding",
            "context": model.context,
            "parallel": model.parallel,
            "dtype": model.dtype,
            "threads": threads,
            "cuda": bool(reservation.device),
            "piece": PROMPT_PIECE["cuda" if reservation.device else "cpu"],
            # The context of CUDA is none of what torch counts.
            "memory": max(0, reservation.granted - CONTEXT["transformers"]),
        }
        return await spawn(
            [model.python or "", str(BOOTSTRAP), json.dumps(options)],
            environment=environment(source, reservation, threads),
            folder=BOOTSTRAP.parent,
            on_line=heard,
        )

    def _reach(self, phase: str, size: int) -> None:
        self._phase = phase
        before = file_bytes(self._child.pid) if self._child is not None else None
        if phase == READING and size and before is not None:
            self._weights = MappedFile(size, before)

    def _exited(self, child: Child, status: int, ready: asyncio.Future[None]) -> None:
        if not ready.done():
            ready.set_exception(EngineLost(f"it ended with status {status}"))
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


def environment(source: str, reservation: Reservation, threads: int) -> dict[str, str]:
    """What the child is told besides its options."""
    told = {
        # Our own packages are nothing to an interpreter of another environment.
        "PYTHONPATH": "",
        # Spinning threads take the core from those that have work.
        "OMP_WAIT_POLICY": "passive",
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": reservation.device,
    }
    if Path(source).is_absolute():
        told["HF_HUB_OFFLINE"] = "1"
    return told
