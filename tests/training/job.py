"""Jobs as a trainer gives them to the child, and the child itself."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tests.vllm import place
from trainer.launch import ENVIRONMENT, train
from trainer.plan import Hyperparameters, Plan
from trainer.report import Report, decode

Kind = TypeVar("Kind")
CHOSEN = Hyperparameters(
    epochs=4,
    batch=4,
    accumulation=1,
    learning_rate=1e-3,
    rank=8,
    alpha=16,
    dropout=0.05,
    max_length=256,
    seed=3,
    quantise="none",
    dtype="float32",
    checkpoint_every=4,
)
"""Twelve examples make 12 steps, three an epoch."""
CARD = msgspec.structs.replace(
    CHOSEN,
    epochs=1,
    batch=1,
    learning_rate=1e-4,
    rank=16,
    alpha=32,
    dropout=0.0,
    max_length=512,
    seed=0,
    quantise="nf4",
    dtype="bfloat16",
    optimiser="paged_adamw_8bit",
    checkpointing=True,
    checkpoint_every=100,
)
"""As the recipe has it on a card with bfloat16: rank 16 on every linear layer."""


def write(path: Path, lines: Sequence[object]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def asked(question: str, answer: str, **more: object) -> dict[str, object]:
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer, **more},
        ]
    }


def preferred(question: str, better: str, worse: str) -> dict[str, object]:
    return {
        "input": {"messages": [{"role": "user", "content": question}]},
        "preferred_output": [{"role": "assistant", "content": better}],
        "non_preferred_output": [{"role": "assistant", "content": worse}],
    }


def planned(folder: Path, base: Path, lines: Sequence[object], **changes: Any) -> Path:
    """A job's folder; `chosen` are changes of the hyperparameters, `valid` validation lines."""
    folder.mkdir(parents=True)
    chosen = msgspec.structs.replace(CHOSEN, **changes.pop("chosen", {}))
    valid = changes.pop("valid", None)
    Plan(
        **{
            "job": folder.name,
            "base": str(base),
            "method": "supervised",
            "train": str(write(folder / "train.jsonl", lines)),
            "validation": str(write(folder / "valid.jsonl", valid)) if valid else None,
            "hyperparameters": chosen,
            "device": "cpu",
            "threads": 1,
            **changes,
        }
    ).write(folder)
    return folder


class Child:
    """One process; `reports` are all it has said so far."""

    def __init__(self, process: asyncio.subprocess.Process, errors: Path) -> None:
        self.process = process
        self.reports: list[Report] = []
        self._errors = errors

    @classmethod
    async def start(cls, folder: Path) -> Child:
        errors = folder / "stderr.txt"
        with errors.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *train(place.python(), folder),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, **ENVIRONMENT},
                start_new_session=True,
            )
        return cls(process, errors)

    async def until(self, true: Callable[[Report], bool]) -> Report:
        """The first report from now on that is so."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            report = decode(line)
            self.reports.append(report)
            if true(report):
                return report
        raise AssertionError(f"it ended first:\n{self._errors.read_text()[-3000:]}")

    async def order(self, name: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{name}\n".encode())
        await self.process.stdin.drain()

    async def end(self) -> int:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.reports.append(decode(line))
        return await self.process.wait()

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()

    def said(self, kind: type[Kind]) -> list[Kind]:
        return [each for each in self.reports if isinstance(each, kind)]


async def run(folder: Path) -> tuple[int, Child]:
    child = await Child.start(folder)
    return await child.end(), child
