"""Stands in for the child that trains: it reads the same plan, speaks the same lines, computes
nothing. `python training_child.py SECONDS BEHAVIOUR … train FOLDER PARENT`, where … is what
the real one's interpreter is given.

A step takes SECONDS. BEHAVIOUR: well; refused, with a model that is worse than its base; dies, at
once; pores, for ever over the files; starves, with more than two examples at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import msgspec

from shared.lifeline import die_with_parent
from tests.fakes.nvml import vram
from trainer import manifest
from trainer.child.wire import Wire
from trainer.estimate import DryRun, Peak, Peaks
from trainer.plan import BROKEN, FINISHED, YIELDED, Hyperparameters, Plan
from trainer.report import (
    Broken,
    Checkpoint,
    Done,
    Effort,
    Held,
    Metrics,
    Phase,
    Started,
    Step,
    Yielded,
)
from trainer.speed import Gauge, Pace
from trainer.survey import Question, Survey

STEPS = 24
PEAK = 1 << 28


class Child:
    def __init__(self, folder: Path, seconds: float, behaviour: str) -> None:
        self.folder = folder
        self.plan = Plan.read(folder)
        self.seconds = seconds
        self.behaviour = behaviour
        self.wire = Wire()
        self.wire.listen()

    def run(self) -> int:
        self.wire.say(Phase("importing"))
        if self.plan.device == "cuda" and "FAKE_NVML" in os.environ:
            vram.hold(PEAK)
        if self.behaviour == "dies":
            print("no such thing as luck", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if self.behaviour == "starves" and self.plan.hyperparameters.batch > 2:
            self.wire.say(Broken(code="out_of_memory", message="There is no more."))
            return BROKEN
        newest = manifest.newest(self.folder)
        step = 0 if newest is None else newest[1].step
        began = None if newest is None else newest[0].name
        self.wire.say(
            Started(
                step=step,
                of=STEPS,
                examples=10,
                truncated=0,
                dropped=0,
                trainable=1,
                checkpoint=began,
            )
        )
        while step < STEPS:
            step += 1
            time.sleep(self.seconds)
            self.wire.say(self.told(step))
            if self.wire.held:
                self.wire.say(Held(step=step, held=True))
                self.wire.wait_while_held()
                self.wire.say(Held(step=step, held=False))
            reason = self.wire.reason
            if reason is not None:
                where = self.save(step)
                self.wire.say(Yielded(step=step, reason=reason, checkpoint=where))
                return YIELDED
            if step % 5 == 0 or step == STEPS:
                self.save(step)
        return self.finish()

    def told(self, step: int) -> Step:
        return Step(
            step=step,
            of=STEPS,
            loss=1 / step,
            lr=1e-4,
            grad_norm=1.0,
            tokens=10 * step,
            tokens_per_second=100.0,
            eta=(STEPS - step) * self.seconds,
            memory=1 << 20,
        )

    def save(self, step: int) -> str:
        where = self.folder / f"checkpoint-{step}"
        where.mkdir(exist_ok=True)
        self.adapter(where)
        manifest.seal(where, step, loss=1 / step)
        self.wire.say(Checkpoint(step=step, folder=where.name, loss=1 / step))
        return where.name

    def adapter(self, where: Path) -> None:
        (where / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 16}))
        (where / "adapter_model.safetensors").write_bytes(b"weights of " + self.plan.job.encode())

    def finish(self) -> int:
        where = self.folder / "adapter"
        where.mkdir(exist_ok=True)
        self.adapter(where)
        self.wire.say(
            Done(
                adapter=where.name,
                sha256="0" * 64,
                steps=STEPS,
                trained_tokens=10 * STEPS,
                metrics=Metrics(train_loss=1 / STEPS),
                effort=Effort(steps=STEPS, tokens=10 * STEPS, seconds=2.0, around=3.0, peak=PEAK),
                refused="It is worse than its base." if self.behaviour == "refused" else None,
            )
        )
        return FINISHED


def examine(behaviour: str) -> int:
    """What is asked before a job begins."""
    for line in sys.stdin.buffer:
        if behaviour == "pores":
            time.sleep(3600)
        said = answer(msgspec.json.decode(line, type=Question | DryRun | Gauge))
        sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
        sys.stdout.buffer.flush()
    return 0


def answer(asked: Question | DryRun | Gauge) -> msgspec.Struct:
    if isinstance(asked, Question):
        return Survey(examples=10, samples=10, tokens=300, learned=50, longest=30, p50=30, p99=30)
    if isinstance(asked, Gauge):
        return Pace(1e9)
    return Peaks(peaks=tuple(peak(room(each)) for each in asked.candidates))


def peak(size: int) -> Peak:
    return Peak(peak=size, base=1, adapter=1, optimiser=1, trainable=1)


def room(chosen: Hyperparameters) -> int:
    """Bytes; a rank above the usual one takes 4 MiB each, whatever the batch."""
    return (chosen.batch << 26) + (max(0, chosen.rank - 16) << 22)


def main(seconds: str, behaviour: str, *given: str) -> int:
    if given[-2] == "examine":
        return examine(behaviour)
    verb, folder, parent = given[-3:]
    assert verb == "train"
    die_with_parent(int(parent))
    return Child(Path(folder), float(seconds), behaviour).run()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
