"""Where tuned models lie: folders of their own beneath <home>/models, each whole or not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from trainer.manifest import sync
from trainer.naming import short

FOLDER = "tuned"
FILES = ("adapter_config.json", "adapter_model.safetensors")
"""Of an adapter as peft saves it."""


class Shelf:
    def __init__(self, models: Path) -> None:
        self._models = models

    def put(self, adapter: Path, job: str, step: int | None = None) -> tuple[str, int]:
        """Copies an adapter's files; one that is there already stays as it is.

        Returns its path relative to <home>/models, and its bytes. Raises OSError.
        """
        name = short(job) if step is None else f"{short(job)}-step-{step}"
        relative = f"{FOLDER}/{name}"
        target = self._models / relative
        if not target.is_dir():
            part = target.with_name(f"{name}.part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            for file in FILES:
                shutil.copyfile(adapter / file, part / file)
                sync(part / file)
            sync(part)
            part.rename(target)
            sync(target.parent)
        return relative, sum((target / file).stat().st_size for file in FILES)

    def remove(self, relative: str) -> None:
        """Idempotent; raises ValueError for a path elsewhere, and OSError."""
        folder, _, name = relative.partition("/")
        if folder != FOLDER or not name or os.sep in name or name.startswith("."):
            raise ValueError(f"{relative!r} is no tuned model's folder")
        target = self._models / relative
        if target.exists():
            shutil.rmtree(target)
