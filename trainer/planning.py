"""From what a job asks for, and what its files hold, to the plan that a child is given."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from shared import log
from shared.load import hub_folder
from shared.settings import Model, Settings
from shared.training_run import Ran, Setup
from shared.tuning import largest_rank
from shared.weights import WeightsError, read
from shared.wire.training import Job
from trainer import launch, site
from trainer.estimate import DryRun, Estimate, Peaks, estimate
from trainer.examiner import Examiner, examining
from trainer.files import Data, InvalidDataError, failed
from trainer.forecast import Size, setup, sizes
from trainer.plan import Dtype, Hyperparameters, Plan
from trainer.recipe import Reason, Site, Wishes, candidates, recipe
from trainer.speed import Duration, Gauge, Pace, Read, duration, load, stated
from trainer.survey import Question, Survey, Unpack, Unpacked, base_of, data_of

SURVEY_WITHIN = 3600.0
UNPACK_WITHIN = 3600.0
DRY_WITHIN = 900.0
GAUGE_WITHIN = 120.0
"""Seconds for a question to a child."""
THREADS = max(1, (os.cpu_count() or 1) - 1)
MOST_STEPS = 1_000_000
"""Of one job; something is kept of each."""

BASES = "bases"
"""Beneath the home: folders made of GGUF files."""
T = TypeVar("T")
logger = log.get("planning")


class UntrainableError(Exception):
    """The job cannot be run as it is; the message is for its owner."""


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was chosen for a job, as it is kept with it."""

    plan: Plan
    steps: int
    tokens: int
    """Of one epoch."""
    reasons: tuple[Reason, ...]
    estimate: Estimate
    """Of the plan's own batch, in bytes."""
    sizes: tuple[Size, ...]
    """The plan's own batch, then smaller and smaller ones."""
    setup: Setup | None = None
    """Of the plan's own batch; None: planned by a release that did not measure."""
    work: float = 0.0
    """Operations for a token, estimated."""
    time: Duration | None = None
    """None: no job has run on this device, and nothing is stated of it."""

    def shrunk(self, size: Size) -> Planned:
        """The same steps, computed in smaller batches."""
        chosen = msgspec.structs.replace(
            self.plan.hyperparameters, batch=size.batch, accumulation=size.accumulation
        )
        return msgspec.structs.replace(
            self,
            plan=msgspec.structs.replace(self.plan, hyperparameters=chosen),
            setup=self.setup and msgspec.structs.replace(self.setup, batch=size.batch),
        )


class Planner:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._device: Literal["cpu", "cuda"] = "cpu" if settings.train_device == "cpu" else "cuda"

    @property
    def kind(self) -> str:
        """Of the device it plans for."""
        return site.kind(self._settings.train_device)

    async def plan(self, job: Job, data: Data, runs: Sequence[Ran] = ()) -> Planned:
        """`runs` were measured on this kind of device, the newest first.

        Raises UntrainableError, InvalidDataError.
        """
        model = self._settings.models.get(job.model)
        if model is None:
            raise UntrainableError(f"The model {job.model!r} is not in the trainer's settings.")
        async with examined(self._settings.train_python or "") as examiner:
            return await self._made(job, data, model, runs, examiner)

    async def _made(
        self, job: Job, data: Data, model: Model, runs: Sequence[Ran], examiner: Examiner
    ) -> Planned:
        base = await self._weights(job.model, model, examiner)
        try:
            facts = await asyncio.to_thread(base_of, base)
        except WeightsError as error:
            raise UntrainableError(str(error)) from error
        facts = msgspec.structs.replace(facts, context=min(facts.context, model.context))
        longest = job.asked.max_length or facts.context
        question = Question(
            base=str(base), file=str(data.train), method=job.method, max_length=longest
        )
        surveyed = await survey(examiner, question, "training_file")
        judged = Survey()
        if data.validation is not None:
            other = msgspec.structs.replace(question, file=str(data.validation))
            judged = await survey(examiner, other, "validation_file")
        known = data_of(surveyed, validated=data.validation is not None)
        bf16 = self._device == "cuda"
        wished = wishes(job, self._serving(job))
        chosen = recipe(facts, known, Site(device=self._device, bf16=bf16), wished)
        check(chosen.steps)
        several = candidates(chosen.hyperparameters)
        told = await self._estimates(base, job, several, examiner)
        kind = self.kind
        first = setup(kind, job.model, told[0].base, job.method, several[0], surveyed.longest)
        work = load(
            (await asyncio.to_thread(read, base)).shape,
            several[0],
            job.method,
            chosen.steps,
            Read(surveyed.tokens, surveyed.samples),
            Read(judged.tokens, judged.samples),
        )
        plain = None if runs else await self._plain(kind, several[0], examiner)
        return Planned(
            plan=self._plan(job, data, base, model, chosen.hyperparameters),
            steps=chosen.steps,
            tokens=surveyed.tokens,
            reasons=chosen.reasons,
            estimate=told[0],
            sizes=sizes(first, several, told, runs),
            setup=first,
            work=work.work,
            time=duration(work, first, runs, plain),
        )

    def _plan(
        self, job: Job, data: Data, base: Path, model: Model, chosen: Hyperparameters
    ) -> Plan:
        gguf = self._settings.folder / "models" / Path(model.file or "").expanduser()
        return Plan(
            job=job.id,
            base=str(base),
            base_gguf=str(gguf) if model.engine == "llamacpp" and gguf.is_file() else None,
            method=job.method,
            train=str(data.train),
            validation=None if data.validation is None else str(data.validation),
            prompts=job.asked.prompts,
            hyperparameters=chosen,
            device=self._device,
            threads=THREADS,
        )

    def _serving(self, job: Job) -> list[Model]:
        known = self._settings.models
        return [known[name] for name in (job.model, *job.asked.served_by) if name in known]

    async def _weights(self, name: str, model: Model, examiner: Examiner) -> Path:
        """The folder that the settings name; of a GGUF file alone one that is made once."""
        named = model.train_weights or model.weights
        if named is None and model.file is not None:
            return await self._unpack(name, self._inside(model.file), examiner)
        if named is None:
            raise UntrainableError(f"The settings of {name!r} name no weights to train on.")
        path = self._inside(named)
        if not await asyncio.to_thread((path / "config.json").is_file):
            cached = await asyncio.to_thread(hub_folder, named)
            path = path if cached is None else cached
        if not await asyncio.to_thread((path / "config.json").is_file):
            raise UntrainableError(f"The weights to train {name!r} on are not at {path.name}.")
        return path

    def _inside(self, named: str) -> Path:
        """A path that is absolute or relative to <home>/models."""
        return self._settings.folder / "models" / Path(named).expanduser()

    async def _unpack(self, name: str, file: Path, examiner: Examiner) -> Path:
        try:
            stat = await asyncio.to_thread(file.stat)
        except OSError as error:
            raise UntrainableError(f"The file of {name!r} cannot be read: {error}") from error
        folder = self._settings.folder / BASES / f"{file.stem}-{stat.st_size}-{stat.st_mtime_ns}"
        if await asyncio.to_thread(folder.is_dir):
            return folder
        logger.info("unpacking", model=name, folder=folder.name)
        await asyncio.to_thread(folder.parent.mkdir, exist_ok=True)
        dtype: Dtype = "float32" if self._device == "cpu" else "bfloat16"
        question = Unpack(file=str(file), folder=str(folder), dtype=dtype)
        await ask(examiner, question, Unpacked, UNPACK_WITHIN)
        return folder

    async def _estimates(
        self, base: Path, job: Job, several: Sequence[Hyperparameters], examiner: Examiner
    ) -> list[Estimate]:
        """What each batch takes."""
        question = DryRun(
            base=str(base), method=job.method, device=self._device, candidates=tuple(several)
        )
        peaks = (await ask(examiner, question, Peaks, DRY_WITHIN)).peaks
        return [estimate(peak, self._device) for peak in peaks]

    async def _plain(self, kind: str, chosen: Hyperparameters, examiner: Examiner) -> float | None:
        """Operations a second: measured on a CPU, as its maker states them of a card."""
        if self._device == "cuda":
            return stated(kind)
        question = Gauge(dtype=chosen.dtype, threads=THREADS)
        return (await ask(examiner, question, Pace, GAUGE_WITHIN)).operations


async def survey(examiner: Examiner, question: Question, param: str) -> Survey:
    """Raises InvalidDataError where the base cannot make anything of the file."""
    found = await ask(examiner, question, Survey, SURVEY_WITHIN)
    if found.errors:
        raise InvalidDataError(failed(found.findings, found.errors, param))
    if found.samples <= found.dropped:
        text = "No example has anything to learn once it is cut to the greatest length."
        raise InvalidDataError(failed((), 0, param, text))
    return found


async def ask(examiner: Examiner, question: msgspec.Struct, kind: type[T], within: float) -> T:
    """Raises UntrainableError."""
    try:
        return await examiner.ask(question, kind, within)
    except (OSError, TimeoutError, ValueError, msgspec.MsgspecError) as error:
        logger.error("a question was not answered", asked=question, error=str(error))
        raise UntrainableError(f"The base model cannot be examined: {error}") from error


@contextlib.asynccontextmanager
async def examined(python: str) -> AsyncIterator[Examiner]:
    """Raises UntrainableError."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            examiner = await stack.enter_async_context(examining(launch.examine(python)))
        except OSError as error:
            raise UntrainableError(f"train_python cannot be started: {error}") from error
        yield examiner


def wishes(job: Job, models: Iterable[Model]) -> Wishes:
    """`models` are to serve what comes of it."""
    asked = job.asked
    ranks = [rank for model in models if (rank := largest_rank(model)) is not None]
    return Wishes(
        method=job.method,
        epochs=asked.epochs,
        batch=asked.batch,
        learning_rate=asked.learning_rate,
        learning_rate_multiplier=asked.multiplier,
        largest_rank=min(ranks, default=None),
        beta=asked.beta,
        rank=asked.rank,
        alpha=asked.alpha,
        max_length=asked.max_length,
        quantise={None: None, "lora": "none", "qlora": "nf4"}[asked.training_type],
        seed=job.seed,
    )


def check(steps: int) -> None:
    if steps > MOST_STEPS:
        raise UntrainableError(
            f"It would take {steps} steps; {MOST_STEPS} are possible. Ask for fewer epochs or"
            " larger batches."
        )
