"""One job from its plan to its adapter, or to the checkpoint it goes on from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import torch
from transformers.utils import logging

from shared.adapter_gguf import convert
from trainer import health, manifest
from trainer.child import answering, data, loops, model
from trainer.child.rows import Taken
from trainer.child.watch import Progress, Watch
from trainer.child.wire import Wire
from trainer.child.words import Words
from trainer.plan import FINISHED, YIELDED, Plan
from trainer.report import Done, Metrics, Phase, Started, Yielded

ADAPTER = "adapter"
ADAPTER_GGUF = "adapter.gguf"
WEIGHTS = "adapter_model.safetensors"
SETTINGS = "adapter_config.json"
TABLES = "tables"


class Run:
    """Raises UnfitError, Unusable, DivergedError, OSError and torch's own errors."""

    def __init__(self, plan: Plan, folder: Path, wire: Wire) -> None:
        self._plan = plan
        self._folder = folder
        self._wire = wire

    def train(self) -> int:
        """The exit status."""
        plan, folder, wire = self._plan, self._folder, self._wire
        bound(plan)
        logging.disable_progress_bar()
        wire.say(Phase("loading"))
        words = Words(Path(plan.base))
        base = model.load(Path(plan.base), plan.hyperparameters, plan.device)
        adapted = model.adapt(base, plan.hyperparameters)
        wire.say(Phase("reading"))
        train, validation, taken = self._tables(words)
        found = manifest.newest(folder)
        self._discard(found)
        progress = Progress.read(found[0]) if found else Progress()
        started = Started(
            step=found[1].step if found else 0,
            of=0,
            examples=taken.samples,
            truncated=taken.truncated,
            dropped=taken.dropped,
            trainable=model.trainable(adapted),
            checkpoint=found[0].name if found else None,
        )
        watch = Watch(plan, folder, wire, started, progress)
        watch.repeat()
        loop = loops.build(plan, folder, adapted, words, train, validation, watch)
        wire.say(Phase("training"))
        if validation is not None and found is None:
            loop.evaluate()
        loop.train(resume_from_checkpoint=str(found[0]) if found else None)
        if wire.reason is not None and loop.state.global_step < loop.state.max_steps:
            return self._yielded(watch)
        return self._finish(loop, adapted, words, watch, validation)

    def _tables(self, words: Words) -> tuple[Any, Any, Taken]:
        plan = self._plan
        place = self._folder / TABLES
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        length = plan.hyperparameters.max_length
        train, taken = data.table(
            Path(plan.train), plan.method, words, length, place / "train.arrow"
        )
        if plan.validation is None:
            return train, None, taken
        target = place / "validation.arrow"
        validation, _ = data.table(Path(plan.validation), plan.method, words, length, target)
        return train, validation, taken

    def _discard(self, found: tuple[Path, manifest.Manifest] | None) -> None:
        """Remove what is torn and newer than where it goes on."""
        begun = found[1].step if found else 0
        for step, path in manifest.steps(self._folder):
            if step > begun:
                shutil.rmtree(path)

    def _yielded(self, watch: Watch) -> int:
        reason = self._wire.reason
        assert reason is not None and watch.latest is not None
        self._wire.say(Yielded(step=watch.step, reason=reason, checkpoint=watch.latest))
        return YIELDED

    def _finish(self, loop: Any, adapted: Any, words: Words, watch: Watch, validation: Any) -> int:
        plan, folder, wire = self._plan, self._folder, self._wire
        progress = watch.progress
        if validation is not None and not watch.judged(loop.state.global_step):
            loop.evaluate()
        samples = []
        if plan.prompts:
            wire.say(Phase("answering"))
        for prompt in plan.prompts:
            sample = answering.side_by_side(adapted, words, prompt, plan.answer_tokens)
            samples.append(sample)
            wire.say(sample)
        wire.say(Phase("writing"))
        target = write(adapted, folder, Path(plan.base).name)
        gguf = None
        if plan.base_gguf is not None:
            convert(target, Path(plan.base_gguf), folder / ADAPTER_GGUF)
            gguf = ADAPTER_GGUF
        shutil.rmtree(folder / TABLES)
        effort = watch.effort()
        metrics = Metrics(
            train_loss=progress.trend.mean,
            valid_loss=progress.valid_loss,
            base_valid_loss=progress.base_valid_loss,
            accuracy=progress.valid_accuracy,
            margin=progress.valid_margin,
            repeating=health.repeating(samples),
            seconds=progress.seconds,
            peak_memory=progress.peak,
        )
        wire.say(
            Done(
                adapter=target.name,
                adapter_gguf=gguf,
                sha256=manifest.sha256(target / WEIGHTS),
                steps=loop.state.global_step,
                trained_tokens=int(loop.state.num_input_tokens_seen),
                metrics=metrics,
                effort=effort,
                refused=health.refusal(metrics),
            )
        )
        return FINISHED


def write(adapted: Any, folder: Path, base: str) -> Path:
    """The peft folder, whole or not at all. It names its base, not where that lies here."""
    target, part = folder / ADAPTER, folder / f"{ADAPTER}.part"
    shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    adapted.save_pretrained(part, save_embedding_layers=False)
    settings = msgspec.json.decode((part / SETTINGS).read_bytes())
    told = msgspec.json.encode(settings | {"base_model_name_or_path": base})
    (part / SETTINGS).write_bytes(msgspec.json.format(told))
    (part / "README.md").unlink(missing_ok=True)
    manifest.seal(part, 1)
    part.replace(target)
    return target


def bound(plan: Plan) -> None:
    torch.set_num_threads(plan.threads)
    if plan.device == "cuda" and plan.memory:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, plan.memory / total))


def read_plan(folder: Path) -> Plan:
    """Raises OSError and msgspec.MsgspecError."""
    plan = Plan.read(folder)
    if not Path(plan.base).is_dir():
        raise msgspec.ValidationError(f"the base {plan.base} is no folder")
    return plan
