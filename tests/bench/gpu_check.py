"""`make gpu-check`: two models of vLLM under the ledger on a real card, and what each step takes.

    make gpu-check GPU="--python /opt/vllm/bin/python --weights FOLDER_OR_ID --weights FOLDER_OR_ID"

Loads both, lets each sleep, wakes it, stops it and starts it again, and prints the estimate beside
what NVML shows. `--train FOLDER` adds a short QLoRA run, whose adapter is then served. Exit status
3: no NVIDIA card here; 4: that interpreter has no vLLM.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from shared.estimate import Estimate, estimate
from shared.load import load_of, weights_path
from shared.settings import Model, Settings
from shared.weights import read
from tests.bench import gpu_training
from tests.bench.figures import table
from tests.bench.gpu_first import first_token
from worker.cuda import CudaDevice, open_cuda
from worker.device import DeviceFault
from worker.engines.base import Reservation
from worker.engines.vllm import Vllm
from worker.gpu import count
from worker.ledger import Granted, Ledger

NO_CARD = 3
NO_VLLM = 4
MIB = 1 << 20
RELEASE = 30.0
VERSION = "import importlib.metadata as m; print(m.version('vllm'))"


class Row(msgspec.Struct):
    """One model: bytes and seconds; None: not measured."""

    name: str
    estimated: int
    kv: int
    loaded: int | None = None
    served: int | None = None
    asleep: int | None = None
    start: float | None = None
    token: float | None = None
    sleep: float | None = None
    wake: float | None = None
    token_awake: float | None = None
    stop: float | None = None
    restart: float | None = None
    lingering: int | None = None


class Subject(NamedTuple):
    engine: Vllm
    estimate: Estimate
    row: Row


async def timed(work: Awaitable[object]) -> float:
    begun = time.monotonic()
    await work
    return time.monotonic() - begun


class Check:
    """One card, its books, and the models on it."""

    def __init__(self, card: CudaDevice, settings: Settings) -> None:
        self._card = card
        self._settings = settings
        self.ledger = Ledger(card.name, card.total)

    def subject(self, name: str, model: Model) -> Subject:
        load = msgspec.structs.replace(load_of(model, self._settings), device="cuda")
        found = estimate(read(weights_path(name, model, self._settings)), load)
        given = Reservation(
            device=self._card.description.uuid,
            total=self._card.total,
            granted=found.total,
            kv=found.kv_cache,
        )
        engine = Vllm(name, model, self._settings, given)
        return Subject(engine, found, Row(name=name, estimated=found.total, kv=found.kv_cache))

    async def held(self, subject: Subject) -> int | None:
        """What NVML shows for the model now; the books are settled with it."""
        name = subject.row.name
        measured = (await self._card.measure({name: subject.engine.pids()}))[name].bytes
        if measured is not None:
            self.ledger.settle(name, measured)
        return measured

    async def start(self, subject: Subject) -> float:
        verdict = self.ledger.admit(subject.row.name, subject.estimate.total)
        if not isinstance(verdict, Granted):
            raise SystemExit(f"The ledger refuses {subject.row.name}: {verdict}")
        return await timed(subject.engine.start())

    async def load(self, subject: Subject) -> None:
        row = subject.row
        row.start = await self.start(subject)
        row.loaded = await self.held(subject)
        row.token = await first_token(subject.engine)
        row.served = await self.held(subject)

    async def nap(self, subject: Subject) -> None:
        row = subject.row
        row.sleep = await timed(subject.engine.sleep())
        row.asleep = await self.held(subject)
        row.wake = await timed(subject.engine.wake())
        row.token_awake = await first_token(subject.engine)
        await self.held(subject)

    async def swap_cold(self, subject: Subject) -> None:
        await self.stop(subject)
        subject.row.restart = await self.start(subject)
        await first_token(subject.engine)

    async def stop(self, subject: Subject) -> None:
        row, pids = subject.row, subject.engine.pids()
        below = await self._card.used() - (row.served or 0)
        row.stop = await timed(subject.engine.stop())
        left = await self._card.released(pids, RELEASE, below)
        row.lingering = left.bytes
        if left.bytes:
            self.ledger.quarantine(row.name, left.bytes, "still shown after the stop")
        else:
            self.ledger.release(row.name)


async def run(card: CudaDevice, settings: Settings) -> list[Row]:
    """Every step for every model, both loaded at once."""
    check = Check(card, settings)
    subjects = [check.subject(name, model) for name, model in settings.models.items()]
    try:
        for subject in subjects:
            await check.load(subject)
        for subject in subjects:
            await check.nap(subject)
        for subject in subjects:
            await check.swap_cold(subject)
        for subject in subjects:
            await check.stop(subject)
    finally:
        for subject in subjects:
            await subject.engine.stop()
    return [subject.row for subject in subjects]


def mebibytes(size: int | None) -> str:
    return "-" if size is None else f"{size / MIB:,.0f}"


def seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def error(row: Row) -> str:
    most = max(row.loaded or 0, row.served or 0)
    return f"{(row.estimated - most) / most * 100:+.1f} %" if most else "-"


def report(card: CudaDevice, version: str, rows: list[Row]) -> str:
    about = card.description
    memory = [
        [
            row.name,
            *map(mebibytes, (row.estimated, row.kv, row.loaded, row.served)),
            error(row),
            *map(mebibytes, (row.asleep, row.lingering)),
        ]
        for row in rows
    ]
    times = [
        [
            row.name,
            *map(seconds, (row.start, row.token, row.sleep, row.wake, row.token_awake)),
            *map(seconds, (row.stop, row.restart)),
        ]
        for row in rows
    ]
    return "\n".join(
        (
            f"{about.name}, {mebibytes(card.total)} MiB, driver {about.driver}, vLLM {version},"
            f" {datetime.now(UTC):%Y-%m-%d}",
            "",
            table(
                "Memory of the card, MiB",
                ["model", "estimate", "of it KV", "loaded", "served", "error", "asleep", "left"],
                memory,
            ),
            table(
                "Times, s: a swap is sleep and wake, or stop and start again",
                ["model", "start", "token", "sleep", "wake", "token", "stop", "start again"],
                times,
            ),
        )
    )


def models(options: argparse.Namespace) -> dict[str, Model]:
    extra = ("--load-format", "dummy") if options.dummy else ()
    weights = options.weights if len(options.weights) > 1 else options.weights * 2
    return {
        f"{'abcdefgh'[at]}:{Path(source).name}": Model(
            engine="vllm",
            weights=source,
            python=options.python,
            context=options.context,
            parallel=options.parallel,
            lane="gpu",
            arguments=(*extra, *options.argument),
        )
        for at, source in enumerate(weights[:8])
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gpu_check", description=__doc__)
    parser.add_argument("--python", help="interpreter of the environment that has vLLM")
    parser.add_argument("--weights", action="append", default=[], help="folder or Hugging Face id")
    parser.add_argument("--dummy", action="store_true", help="random weights of the same shape")
    parser.add_argument("--train", type=Path, help="Hugging Face folder for a QLoRA run as well")
    parser.add_argument("--train-python", help="interpreter that has trl, if --python has not")
    parser.add_argument("--card", type=int, default=0)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--argument", action="append", default=[], help="more for vLLM itself")
    return parser.parse_args()


def vllm_version(python: str | None) -> str | None:
    """None where there is no such interpreter or it has no vLLM."""
    if python is None:
        return None
    try:
        said = subprocess.run([python, "-c", VERSION], capture_output=True, text=True, timeout=60)
    except OSError:
        return None
    return said.stdout.strip() if said.returncode == 0 else None


async def measure(options: argparse.Namespace, version: str) -> int:
    card = await open_cuda(options.card)
    try:
        with tempfile.TemporaryDirectory(prefix="aihub-") as home:
            rows = await run(card, Settings(home=home, models=models(options)))
        print(report(card, version, rows))
        if options.train is not None:
            python = options.train_python or options.python
            subject = gpu_training.Subject(options.train, python, options.python)
            print(await gpu_training.measure(card, subject))
    finally:
        card.close()
    return 0


def main() -> int:
    options = arguments()
    try:
        cards = count()
    except DeviceFault as fault:
        print(f"gpu-check measured nothing, there is no NVIDIA card: {fault}")
        return NO_CARD
    if not cards:
        print("gpu-check measured nothing: NVML lists no card")
        return NO_CARD
    version = vllm_version(options.python)
    if version is None or not options.weights:
        print(
            f"gpu-check measured nothing: {options.python or '--python'} has no vLLM"
            if version is None
            else "gpu-check needs --weights"
        )
        return NO_VLLM
    return asyncio.run(measure(options, version))


if __name__ == "__main__":
    sys.exit(main())
