"""The child process of one llama.cpp model: start, what it can do, end."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

import worker
from shared import log
from shared.errors import EngineFailed
from shared.settings import Model, Settings
from shared.wire.node import LoadProgress
from worker.engines.base import EngineLost
from worker.engines.exchange import Refused
from worker.engines.llamacpp_child import READING, READY, Options
from worker.engines.progress import MappedFile, file_bytes
from worker.engines.upstream import Address, Upstream
from worker.process import Child, spawn

PROMPT_CACHE = 64
"""MiB of host memory for prompts; llama.cpp's own default is 8 GiB."""
MAGIC = b"GGUF"
FAULTS = (
    (re.compile(r"unknown model architecture", re.IGNORECASE), "Its architecture is not known."),
    (
        re.compile(r"bad_alloc|out of memory|failed to allocate|unable to allocate", re.IGNORECASE),
        "There is not enough memory for it.",
    ),
    (
        re.compile(r"cannot be loaded|failed to load|error loading", re.IGNORECASE),
        "Its file is damaged or no model that llama.cpp can load.",
    ),
)
START_TIMEOUT = 300.0


class Capabilities(msgspec.Struct):
    supports_tools: bool = False


class Properties(msgspec.Struct):
    chat_template_caps: Capabilities = msgspec.field(default_factory=Capabilities)


class Dimensions(msgspec.Struct):
    """Sizes of the loaded model."""

    n_vocab: int = 0
    n_embd: int = 0


class ListedModel(msgspec.Struct):
    meta: Dimensions


class ListedModels(msgspec.Struct):
    data: list[ListedModel]


def meaning(lines: list[str]) -> str:
    """What the child's last lines mean to who asks for the model; the lines are for the log."""
    said = "\n".join(lines)
    return next(
        (told for fault, told in FAULTS if fault.search(said)), "The worker's log says why."
    )


def is_gguf(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(MAGIC)) == MAGIC


def sweep(folder: Path) -> None:
    """Remove the sockets of workers that ended without doing so."""
    for socket in folder.glob("llama-*-*.sock"):
        owner = socket.name.split("-")[1]
        if owner.isdecimal() and not lives(int(owner)):
            socket.unlink(missing_ok=True)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class LlamaServer:
    """After `start`: `upstream` answers, `sizes` and `tools` describe the model.

    `adapters` are the GGUF files it starts with, by name; it can take no others later.
    """

    def __init__(
        self,
        name: str,
        model: Model,
        settings: Settings,
        adapters: Mapping[str, Path] | None = None,
    ) -> None:
        self.sizes = Dimensions()
        self.tools = False
        """Whether the model's own template knows tools."""
        self.adapters = dict(adapters or {})
        self._name = name
        self._model = model
        self._file = settings.folder / "models" / Path(model.file or "").expanduser()
        self._sockets = settings.sockets
        self._socket: Path | None = None
        self._child: Child | None = None
        self._weights: MappedFile | None = None
        self._size = 0
        self._upstream: Upstream | None = None
        self._over = asyncio.Event()
        self._users = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._log = log.get("llamacpp")

    @property
    def alive(self) -> bool:
        return self._upstream is not None and self._child is not None and self._child.alive

    @property
    def context(self) -> int:
        """Tokens one request may take."""
        return self._model.context

    @property
    def pid(self) -> int:
        """The child's process id, 0 when there is none."""
        return self._child.pid if self._child is not None and self._child.alive else 0

    def progress(self) -> LoadProgress | None:
        """None unless it is being started."""
        if self._child is None or self._upstream is not None:
            return None
        resident = file_bytes(self._child.pid) if self._weights is not None else None
        if self._weights is None or resident is None:
            return LoadProgress("starting", 0, self._size)
        return self._weights.progress(resident)

    async def ended(self) -> None:
        """Returns as soon as it is not alive any more."""
        await self._over.wait()

    @contextmanager
    def used(self) -> Iterator[None]:
        """One request, from its first call to its last."""
        self._users += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._idle.set()

    async def idle(self) -> None:
        """Returns when no request uses it."""
        await self._idle.wait()

    @property
    def upstream(self) -> Upstream:
        """Raises EngineLost when the child is not there."""
        if self._upstream is None or not self.alive:
            raise EngineLost("the engine is not running")
        return self._upstream

    async def start(self) -> None:
        """Raises EngineFailed with what the child's end means."""
        if self.alive:
            return
        await self.stop()
        if not self._file.is_file():
            raise EngineFailed(f"The model {self._name} lacks its file {self._file.name}.")
        self._size = self._file.stat().st_size
        try:
            if not is_gguf(self._file):
                raise EngineFailed(f"The model {self._name}: {self._file.name} is not a GGUF file.")
            async with asyncio.timeout(START_TIMEOUT):
                await self._launch()
        except TimeoutError:
            raise await self._failure("was not ready in time") from None
        except (EngineLost, Refused, msgspec.MsgspecError, OSError) as error:
            raise await self._failure("could not be started", str(error)) from error
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the child and all it started. Idempotent."""
        self._upstream = None
        self._over.set()
        child, self._child = self._child, None
        socket, self._socket = self._socket, None
        if child is not None:
            await child.stop()
        if socket is not None:
            socket.unlink(missing_ok=True)

    async def _launch(self) -> None:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def heard(line: str) -> None:
            if line == READY and not ready.done():
                ready.set_result(None)
            elif line.startswith(READING):
                self._weights = MappedFile(self._size, int(line.removeprefix(READING)))

        self._sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep(self._sockets)
        self._weights = None
        self._socket = self._sockets / f"llama-{os.getpid()}-{os.urandom(4).hex()}.sock"
        child = self._child = await self._spawn(self._socket, heard)
        child.exited.add_done_callback(lambda exited: self._exited(child, exited.result(), ready))
        await ready
        upstream = Upstream(Address(str(self._socket), "localhost", 0, ""))
        models = msgspec.json.decode(await upstream.call("GET", "/v1/models"), type=ListedModels)
        self.sizes = models.data[0].meta
        properties = msgspec.json.decode(await upstream.call("GET", "/props"), type=Properties)
        self.tools = properties.chat_template_caps.supports_tools
        self._upstream = upstream
        self._over = asyncio.Event()
        if not child.alive:
            self._over.set()
        self._log.info("engine ready", model=self._name, pid=child.pid)

    def _exited(self, child: Child, status: int, ready: asyncio.Future[None]) -> None:
        if not ready.done():
            ready.set_exception(EngineLost(f"it ended with status {status}"))
        if child is self._child and self._upstream is not None:
            self._over.set()
            self._log.error("engine died", model=self._name, status=status, said=child.tail(30))

    async def _spawn(self, socket: Path, heard: Callable[[str], None]) -> Child:
        embedding = self._model.kind == "embedding"
        options = Options(
            file=str(self._file),
            socket=str(socket),
            parent=os.getpid(),
            context=self._model.context,
            parallel=self._model.parallel,
            threads=self._model.threads or max(1, (os.cpu_count() or 2) // 2),
            embedding=embedding,
            # Prompts in that cache do not tell which adapter they were read with.
            prompt_cache=0 if embedding or self.adapters else PROMPT_CACHE,
            adapters=[str(file) for file in self.adapters.values()],
        )
        argv = [sys.executable, "-m", "worker.engines.llamacpp_child"]
        return await spawn(
            [*argv, msgspec.json.encode(options).decode()],
            # Spinning OpenMP threads take the core from those that have work.
            environment={"OMP_WAIT_POLICY": "passive"},
            folder=Path(worker.__file__).parents[1],
            on_line=heard,
        )

    async def _failure(self, what: str, why: str = "") -> EngineFailed:
        child = self._child
        await self.stop()
        said: list[str] = []
        if child is not None:
            await child.drained()
            said = child.tail(100)
        self._log.error("engine failed", model=self._name, what=what, why=why, said=said[-30:])
        return EngineFailed(f"The engine of {self._name} {what}. {meaning(said)}")
