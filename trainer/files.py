"""A job's files: brought into its folder, and read through before anything starts."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from shared import dataset
from shared.errors import HubError, Unavailable
from shared.settings import Settings
from shared.wire.openai.fine_tuning import JobError
from shared.wire.training import Job
from trainer.dataset import Finding, Inspection, Seen, inspect

TRAIN, VALIDATION = "train.jsonl", "validation.jsonl"
TOLD = 10
"""Findings that an error tells one by one."""


class Data(NamedTuple):
    train: Path
    validation: Path | None


Fetch = Callable[[str, str, Path], Awaitable[object]]


class InvalidDataError(Exception):
    """What is wrong with the files, for the job's owner."""

    def __init__(self, told: JobError) -> None:
        super().__init__(told.message)
        self.told = told


class Files:
    """`uploaded` copies a file of a project to a path; raises HubError."""

    def __init__(self, settings: Settings, uploaded: Fetch) -> None:
        self._settings = settings
        self._uploaded = uploaded

    async def fetch(self, job: Job, folder: Path) -> Data:
        """Puts the job's files into `folder`, where they are not yet, and checks them.

        Raises InvalidDataError; Unavailable while the store of files does not answer.
        """
        seen = Seen()
        train = await self._bring(job, job.training_file, folder / TRAIN, "training_file")
        found = await asyncio.to_thread(inspect, train, job.method, seen=seen)
        check(found, "training_file")
        validation = None
        if job.validation_file is not None:
            where = folder / VALIDATION
            validation = await self._bring(job, job.validation_file, where, "validation_file")
            second = await asyncio.to_thread(
                inspect, validation, job.method, minimum=1, training=seen
            )
            check(second, "validation_file")
        return Data(train, validation)

    async def _bring(self, job: Job, name: str, path: Path, param: str) -> Path:
        """Whole or not at all."""
        part = path.with_suffix(".part")
        if await asyncio.to_thread(there, path, part):
            return path
        try:
            if name.startswith(dataset.UPLOADED):
                await self._uploaded(job.project, name, part)
            else:
                source = await asyncio.to_thread(dataset.local, name, self._settings)
                await asyncio.to_thread(shutil.copyfile, source, part)
        except ValueError as error:
            raise InvalidDataError(JobError("invalid_training_file", f"{error}.", param)) from error
        except HubError as error:
            if isinstance(error, Unavailable):
                raise
            raise InvalidDataError(
                JobError("invalid_training_file", error.message, param)
            ) from error
        await asyncio.to_thread(part.rename, path)
        return path


def there(path: Path, part: Path) -> bool:
    """Whether it was brought before; what an earlier attempt left of it goes."""
    part.unlink(missing_ok=True)
    return path.exists()


def check(found: Inspection, param: str) -> None:
    if not found.usable:
        errors = [each for each in found.findings if each.level == "error"]
        raise InvalidDataError(failed(errors, sum(found.errors.values()), param))


def failed(findings: Sequence[Finding], count: int, param: str, text: str = "") -> JobError:
    """What is wrong with a file: the first findings line by line."""
    if not text:
        more = f" and {count - TOLD} more" if count > TOLD else ""
        several = "s" if count > 1 else ""
        text = f"The file has {count} error{several}: {told(findings[:TOLD])}{more}"
    return JobError("invalid_training_file", text, param)


def told(findings: Sequence[Finding]) -> str:
    return "; ".join(
        f"line {each.line}: {each.code}: {each.message}" if each.line else each.message
        for each in findings
    )
