"""A short QLoRA run on a card: its estimate beside what NVML shows, and how fast it is.

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

from tests.bench.figures import table
from tests.training.job import asked, planned
from trainer import estimate, launch
from trainer.plan import FINISHED, Hyperparameters
from trainer.report import Done, Step, decode
from worker.cuda import CudaDevice

MIB = 1 << 20
EVERY = 0.1
"""Seconds between two looks at the card."""
CHOSEN = Hyperparameters(
    epochs=1,
    batch=4,
    accumulation=1,
    learning_rate=1e-4,
    rank=16,
    alpha=32,
    max_length=1024,
    seed=0,
    quantise="nf4",
    dtype="bfloat16",
    optimiser="paged_adamw_8bit",
    checkpointing=True,
    checkpoint_every=100,
)
EXAMPLES = 48


class Outcome(NamedTuple):
    estimated: int
    shown: int | None
    """The most that NVML showed for the child."""
    reserved: int
    """The most that torch's allocator held."""
    tokens_per_second: float
    seconds: float
    """From the start of the process to the adapter."""


async def measure(card: CudaDevice, python: str, base: Path) -> str:
    """A table; SystemExit with the child's last words where it breaks."""
    told = await asyncio.to_thread(dry, python, base)
    with tempfile.TemporaryDirectory(prefix="aihub-") as home:
        changes = msgspec.structs.asdict(CHOSEN)
        lines = [asked(f"Say {each}.", "one two three " * 1024) for each in range(EXAMPLES)]
        folder = planned(Path(home) / "job", base, lines, device="cuda", chosen=changes)
        outcome = await train(card, python, folder, told)
    shown = outcome.shown
    head = ["base", "estimated MiB", "NVML MiB", "torch MiB", "estimate", "tokens/s", "seconds"]
    row = [
        base.name,
        outcome.estimated // MIB,
        "not shown" if shown is None else shown // MIB,
        outcome.reserved // MIB,
        "-" if not shown else f"{outcome.estimated / shown - 1:+.1%}",
        outcome.tokens_per_second,
        outcome.seconds,
    ]
    title = f"QLoRA, batch {CHOSEN.batch} x {CHOSEN.max_length} tokens, on {card.name}"
    return table(title, head, [row])


def dry(python: str, base: Path) -> int:
    asking = estimate.DryRun(
        base=str(base), method="supervised", device="cuda", candidates=(CHOSEN,)
    )
    done = subprocess.run(
        launch.examine(python),
        input=msgspec.json.encode(asking),
        capture_output=True,
        check=False,
        timeout=600,
    )
    if done.returncode != 0:
        raise SystemExit(done.stderr.decode()[-2000:])
    (peak,) = msgspec.json.decode(done.stdout, type=estimate.Peaks).peaks
    return estimate.estimate(peak, "cuda").total


async def train(card: CudaDevice, python: str, folder: Path, told: int) -> Outcome:
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
    if status != FINISHED or ended is None:
        raise SystemExit(errors.read_text()[-2000:])
    return Outcome(
        estimated=told,
        shown=shown if isinstance(shown, int) else None,
        reserved=max(step.memory for step in steps),
        tokens_per_second=ended.trained_tokens / ended.metrics.seconds,
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
