"""What fine-tuning takes on a card, for published models, from their config.json alone.

`python -m tests.bench.training_memory` prints the table: a dry run on torch's meta device for each
cell, no card and no weights. `--measure` trains the embedded model on this machine's CPU for a few
steps instead and puts the process's peak beside its estimate. Both need the environment with torch
(`make test-vllm` installs it, or TEST_VLLM_PYTHON names its interpreter).
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Literal

import msgspec

from tests.bench.figures import table
from tests.training.job import CARD, asked, planned, run
from tests.unit.shared.weights.configs import MODELS
from tests.vllm import place
from trainer import estimate, launch
from trainer.plan import Hyperparameters, Quantisation
from trainer.report import Done, Step

GIB = 1 << 30
LENGTHS = (512, 2048, 4096)
KINDS: tuple[tuple[str, Quantisation], ...] = (("QLoRA", "nf4"), ("LoRA", "none"))
LONG, SHORT = 128, 64


def peaks(
    base: Path, device: Literal["cpu", "cuda"], candidates: Sequence[Hyperparameters]
) -> list[estimate.Peak]:
    asking = estimate.DryRun(
        base=str(base), method="supervised", device=device, candidates=tuple(candidates)
    )
    done = subprocess.run(
        launch.examine(place.python()),
        input=msgspec.json.encode(asking),
        capture_output=True,
        check=False,
        timeout=600,
    )
    if done.returncode != 0:
        raise SystemExit(done.stderr.decode()[-2000:])
    return list(msgspec.json.decode(done.stdout, type=estimate.Peaks).peaks)


def published(names: Sequence[str]) -> None:
    candidates = [
        msgspec.structs.replace(CARD, quantise=kind, max_length=length)
        for (_, kind), length in product(KINDS, LENGTHS)
    ]
    rows = []
    begun = time.monotonic()
    for name in names:
        config, parameters, _ = MODELS[name]
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(config))
            found = peaks(Path(folder), "cuda", candidates)
        rows.append(
            [name, f"{parameters / 1e9:.2f}"]
            + [
                f"{each.peak / GIB:.1f} → {estimate.estimate(each, 'cuda').total / GIB:.1f}"
                for each in found
            ]
        )
    head = ["model", "10⁹"] + [f"{kind} {length}" for (kind, _), length in product(KINDS, LENGTHS)]
    print(table("Fine-tuning on a card, GiB of tensors → reserved, by tokens", head, rows))
    print(f"{len(rows) * len(candidates)} dry runs in {time.monotonic() - begun:.0f} s")


async def measured() -> None:
    """Examples that fill their length, so that every batch has the shape that was estimated."""
    rows = []
    for (name, kind), length in product(KINDS, (SHORT, LONG)):
        chosen = msgspec.structs.replace(
            CARD,
            batch=4,
            max_length=length,
            quantise=kind,
            dtype="float32",
            optimiser="adamw",
            checkpointing=False,
            checkpoint_every=100,
        )
        (told,) = peaks(place.weights(), "cpu", [chosen])
        with tempfile.TemporaryDirectory() as folder:
            lines = [asked(f"Say {each}.", "one two three " * length) for each in range(12)]
            changes = msgspec.structs.asdict(chosen)
            job = planned(Path(folder) / "job", place.weights(), lines, chosen=changes)
            status, child = await run(job)
            if status != 0:
                raise SystemExit((job / "stderr.txt").read_text()[-2000:])
        peak = child.said(Step)[-1].memory
        total = estimate.estimate(told, "cpu").total
        rows.append([name, length, total / GIB, peak / GIB, f"{total / peak - 1:+.0%}"])
        assert child.said(Done)
    head = ["kind", "tokens", "estimated GiB", "peak RSS GiB", "estimate"]
    print(table("SmolLM2-135M on this CPU, batch 4", head, rows))


def main(arguments: Sequence[str]) -> None:
    if list(arguments) == ["--measure"]:
        asyncio.run(measured())
    else:
        published(list(arguments) or list(MODELS))


if __name__ == "__main__":
    main(sys.argv[1:])
