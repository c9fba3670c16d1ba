"""Three models that do not fit together, and what is known of them without asking the worker."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import NamedTuple

import redis

from shared import keys
from shared.estimate import PROMPT_CACHE
from shared.settings import DEFAULT_MODELS
from shared.wire.node import DeviceReport, ModelReport, WorkerState, decode_state
from tests import models
from tests.hub import Hub, descendants

MIB = 1 << 20
TOLERANCE = 0.05
LIBRARIES = 8 * MIB
"""By so much the PSS of an engine rises when others that shared its libraries are gone."""
MEMORY = 760
"""MiB: once they are measured, any two of the three fit."""
SMALL, LARGE = "talk", "long-talk"
CONTEXTS = {2048: SMALL, 4096: LARGE, 512: models.EMBEDDING}
"""What tells the processes of the models apart."""
UNFILLED = {SMALL: PROMPT_CACHE, LARGE: PROMPT_CACHE, models.EMBEDDING: 0}
"""Bytes that a model gets for its next load though it may not have needed them so far."""
CHAT = DEFAULT_MODELS[models.CHAT].file
TOML = f"""
[models.{SMALL}]
engine = "llamacpp"
file = "{CHAT}"
context = 2048
preload = false
[models.{LARGE}]
engine = "llamacpp"
file = "{CHAT}"
context = 4096
preload = false
[models.{models.EMBEDDING}]
engine = "llamacpp"
kind = "embedding"
file = "{DEFAULT_MODELS[models.EMBEDDING].file}"
context = 512
preload = false
"""
ENGINE = b"worker.engines.llamacpp_child"


def pss(pid: int) -> int:
    """Bytes, as the kernel adds them up; 0 when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = {line.split(":")[0]: line.split()[1] for line in text.splitlines()[1:]}
    return int(fields["Pss"]) * 1024 if "Pss" in fields else 0


def engines(hub: Hub) -> dict[int, str]:
    """The engine processes of a hub, loading ones too: the model of each."""
    found = {}
    for pid in descendants(hub.supervisor):
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if ENGINE in arguments:
            options = json.loads(arguments[arguments.index(ENGINE) + 1])
            found[pid] = CONTEXTS[options["context"]]
    return found


class Books:
    """What the worker of a hub says in its heartbeats."""

    def __init__(self, hub: Hub) -> None:
        self._client = redis.Redis(unix_socket_path=str(hub.home / "run" / "valkey.sock"))

    def close(self) -> None:
        self._client.close()

    def read(self) -> WorkerState:
        for name in self._client.zrange(keys.WORKERS, 0, -1):
            found = self._client.get(keys.worker(name.decode()))
            if found is not None:
                return decode_state(found)
        raise AssertionError("no worker beats")

    def ready(self, model: str) -> ModelReport | None:
        report = self.read().models[model]
        return report if report.state == "ready" else None


class Sight(NamedTuple):
    """One look at the books and at the processes."""

    books: DeviceReport
    real: int
    """PSS of all engines."""


class Lookout:
    """Looks at hub and engines several times a second, until it is closed."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._books = Books(hub)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sights: list[Sight] = []
        self.engines: dict[int, str] = {}
        """Every engine there ever was."""
        self.peaks = dict.fromkeys(CONTEXTS.values(), 0)
        """The most that an engine of each model ever held."""
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        self._books.close()

    def _run(self) -> None:
        while not self._closed.wait(0.2):
            running = engines(self._hub)
            self.engines |= running
            held = {pid: pss(pid) for pid in running}
            for pid, model in running.items():
                self.peaks[model] = max(self.peaks[model], held[pid])
            self.sights.append(Sight(self._books.read().device, sum(held.values())))


def off(told: int, real: int) -> float:
    """The share by which a figure is wrong."""
    return abs(told - real) / real


def settled(books: Books, model: str, pid: int, within: float = 10.0) -> float:
    """How far the books are off what the kernel says of a loaded model that does nothing, once
    they were settled after its last request.
    """
    deadline = time.monotonic() + within
    while True:
        report, real = books.ready(model), pss(pid)
        if report is not None and report.measured and off(report.measured, real) <= TOLERANCE:
            assert report.reserved >= report.measured
            return off(report.measured, real)
        assert time.monotonic() < deadline, (report, real)
        time.sleep(0.2)
