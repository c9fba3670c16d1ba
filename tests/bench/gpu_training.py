"""A short QLoRA run on a card: its estimate beside what NVML shows, how fast it is, and how soon
vLLM, with the base in it, answers with the adapter.

Part of `make gpu-check` with `--train FOLDER` (a Hugging Face folder) and, where the interpreter of
`--python` has no trl, `--train-python`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from shared.estimate import estimate
from shared.load import load_of
from shared.settings import Model, Settings
from shared.weights import read
from tests.bench.figures import table
from tests.bench.gpu_first import first_token
from tests.training.job import CARD, asked, planned
from trainer import launch
from trainer.estimate import DryRun, Peaks
from trainer.estimate import estimate as training
from trainer.plan import FINISHED
from trainer.report import Done, Step, decode
from worker.cuda import CudaDevice
from worker.engines.base import Reservation
from worker.engines.vllm import Vllm

MIB = 1 << 20
EVERY = 0.1
"""Seconds between two looks at the card."""
CHOSEN = msgspec.structs.replace(CARD, batch=4, max_length=1024)
EXAMPLES = 48


CONTEXT = 2048
"""Tokens, where the adapter is served."""


class Subject(NamedTuple):
    base: Path
    """A Hugging Face folder."""
    trainer: str
    """Interpreter with trl."""
    server: str
    """Interpreter with vLLM."""


class Outcome(NamedTuple):
    shown: int | None
    """The most that NVML showed for the child."""
    reserved: int
    """The most that torch's allocator held."""
    tokens_per_second: float
    seconds: float
    """From the start of the process to the adapter."""


async def measure(card: CudaDevice, subject: Subject) -> str:
    """A table; SystemExit with the child's last words where it breaks."""
    estimated = await asyncio.to_thread(dry, subject.trainer, subject.base)
    with tempfile.TemporaryDirectory(prefix="aihub-") as home:
        changes = msgspec.structs.asdict(CHOSEN)
        lines = [asked(f"Say {each}.", "one two three " * 1024) for each in range(EXAMPLES)]
        folder = planned(Path(home) / "job", subject.base, lines, device="cuda", chosen=changes)
        outcome = await train(card, subject.trainer, folder)
        served = await serve(card, subject, Path(home), folder / "adapter")
    return report(card, subject, estimated, outcome, served)


def report(
    card: CudaDevice, subject: Subject, estimated: int, outcome: Outcome, served: float
) -> str:
    shown = outcome.shown
    head = ["base", "estimated MiB", "NVML MiB", "torch MiB", "estimate", "tokens/s", "seconds"]
    row = [
        subject.base.name,
        estimated // MIB,
        "not shown" if shown is None else shown // MIB,
        outcome.reserved // MIB,
        "-" if not shown else f"{estimated / shown - 1:+.1%}",
        outcome.tokens_per_second,
        outcome.seconds,
        served,
    ]
    description = card.description
    title = f"QLoRA, batch {CHOSEN.batch} x {CHOSEN.max_length} tokens, on {description.name}"
    return table(title, [*head, "s to serve"], [row])


async def serve(card: CudaDevice, subject: Subject, home: Path, adapter: Path) -> float:
    """Seconds from the adapter's files to its first token, in an engine that has the base."""
    model = Model(
        engine="vllm",
        weights=str(subject.base),
        python=subject.server,
        context=CONTEXT,
        parallel=1,
        lane="gpu",
        max_lora_rank=CHOSEN.rank,
    )
    settings = Settings(home=str(home))
    load = msgspec.structs.replace(load_of(model, settings), device="cuda")
    found = estimate(read(subject.base), load)
    given = Reservation(
        device=card.description.uuid, total=card.total, granted=found.total, kv=found.kv_cache
    )
    engine = Vllm("tuned", model, settings, given)
    try:
        await engine.start()
        await first_token(engine)
        begun = time.monotonic()
        await engine.load_adapter("tuned@1", str(adapter))
        return time.monotonic() - begun + await first_token(engine, "tuned@1")
    finally:
        await engine.stop()


def dry(python: str, base: Path) -> int:
    asking = DryRun(base=str(base), method="supervised", device="cuda", candidates=(CHOSEN,))
    done = subprocess.run(
        launch.examine(python),
        input=msgspec.json.encode(asking),
        capture_output=True,
        check=False,
        timeout=600,
    )
    if done.returncode != 0:
        raise SystemExit(done.stderr.decode()[-2000:])
    (peak,) = msgspec.json.decode(done.stdout, type=Peaks).peaks
    return training(peak, "cuda").total


async def train(card: CudaDevice, python: str, folder: Path) -> Outcome:
    errors, begun = folder / "stderr.txt", time.monotonic()
    with errors.open("wb") as log:
        child = await asyncio.create_subprocess_exec(
            *launch.train(python, folder),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env={
                **os.environ,
                **launch.ENVIRONMENT,
                "CUDA_VISIBLE_DEVICES": card.description.uuid,
            },
        )
    assert child.stdout is not None
    watching = asyncio.create_task(watch(card, child.pid))
    steps: list[Step] = []
    ended: Done | None = None
    try:
        async for line in child.stdout:
            said = decode(line)
            if isinstance(said, Step):
                steps.append(said)
            elif isinstance(said, Done):
                ended = said
        status = await child.wait()
    finally:
        watching.cancel()
        if child.returncode is None:
            child.kill()
    shown = (await asyncio.gather(watching, return_exceptions=True))[0]
    if status != FINISHED or ended is None or ended.effort is None:
        raise SystemExit(errors.read_text()[-2000:])
    return Outcome(
        shown=shown if isinstance(shown, int) else None,
        reserved=max(step.memory for step in steps),
        tokens_per_second=ended.effort.tokens / ended.effort.seconds,
        seconds=time.monotonic() - begun,
    )


async def watch(card: CudaDevice, pid: int) -> int | None:
    """The most bytes NVML showed for the process; returns when it is cancelled."""
    most: int | None = None
    try:
        while True:
            held = (await card.measure({"job": [pid]}))["job"].bytes
            if held is not None:
                most = max(most or 0, held)
            await asyncio.sleep(EVERY)
    except asyncio.CancelledError:
        return most
