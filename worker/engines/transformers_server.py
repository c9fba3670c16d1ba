"""The child process of one model in transformers: start, sleep, end."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from shared.estimate import CONTEXT
from shared.load import PROMPT_PIECE
from shared.settings import Model, Settings
from shared.wire.node import LoadProgress
from worker.engines.base import EngineLost, Reservation
from worker.engines.llamacpp_server import lives
from worker.engines.progress import MappedFile, file_bytes
from worker.engines.torch_server import TorchServer, stored
from worker.engines.upstream import Address, Upstream
from worker.engines.vllm_arguments import weights
from worker.process import Child, spawn

BOOTSTRAP = Path(__file__).with_name("transformers_child") / "bootstrap.py"
READY = "ready"
READING = "reading weights"
WARMING = "warming up"
"""Lines that the child writes as it goes on."""


def sweep(sockets: Path) -> None:
    """Remove the sockets of workers that ended without doing so."""
    for socket in sockets.glob("torch-*-*.sock"):
        owner = socket.name.split("-")[1]
        if owner.isdecimal() and not lives(int(owner)):
            socket.unlink(missing_ok=True)


class TransformersServer(TorchServer):
    def __init__(
        self, name: str, model: Model, settings: Settings, reservation: Reservation | None
    ) -> None:
        super().__init__(name, model, settings, reservation, "transformers")
        self._phase: str | None = None
        self._weights: MappedFile | None = None

    def progress(self) -> LoadProgress | None:
        if self._phase is None or self._weights is None or self._child is None:
            return LoadProgress(self._phase) if self._phase is not None else None
        resident = file_bytes(self._child.pid)
        if resident is None:
            return LoadProgress(self._phase)
        return msgspec.structs.replace(self._weights.progress(resident), phase=self._phase)

    async def _launch(self, reservation: Reservation) -> tuple[Child, Upstream]:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def heard(line: str) -> None:
            if line == READY and not ready.done():
                ready.set_result(None)
            elif line in (READING, WARMING):
                self._reach(line, size)

        def exited(status: int) -> None:
            if not ready.done():
                ready.set_exception(EngineLost(f"it ended with status {status}"))
            self._exited(child, status)

        source = await asyncio.to_thread(weights, self._model, self._models)
        size = await asyncio.to_thread(stored, Path(source))
        self._enter("starting torch")
        self._sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep(self._sockets)
        socket = self._place = self._sockets / f"torch-{os.getpid()}-{os.urandom(4).hex()}.sock"
        child = self._child = await self._spawn(source, socket, reservation, heard)
        child.exited.add_done_callback(lambda ended: exited(ended.result()))
        await ready
        return child, Upstream(Address(str(socket), "localhost", 0, ""))

    def _enter(self, phase: str | None) -> None:
        self._phase, self._weights = phase, None

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
