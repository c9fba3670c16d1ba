"""A job's files: brought into its folder, and read through before anything starts."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Protocol

from shared import dataset
from shared.settings import Settings
from shared.wire.openai.fine_tuning import JobError
from shared.wire.training import Job
from trainer.dataset import Inspection, Seen, inspect
from trainer.planning import Data

TRAIN, VALIDATION = "train.jsonl", "validation.jsonl"
TOLD = 20
"""Findings that an error tells one by one."""


class InvalidDataError(Exception):
    def __init__(self, told: JobError) -> None:
        super().__init__(told.message)
        self.told = told


class Files(Protocol):
    async def fetch(self, job: Job, folder: Path) -> Data:
        """Puts the job's files into `folder` and checks them; raises InvalidDataError."""
        ...
