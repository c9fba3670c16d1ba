"""Where tuned models lie: folders of their own beneath <home>, each whole or not there."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Collection
from pathlib import Path

from trainer.manifest import sync
from trainer.naming import short

FOLDER = "tuned"
FILES = ("adapter_config.json", "adapter_model.safetensors")
"""Of an adapter as peft saves it."""
GGUF = "adapter.gguf"


class Shelf:
    def __init__(self, home: Path) -> None:
        self._home = home
        self._lock = threading.Lock()

    def put(
        self, adapter: Path, job: str, step: int | None = None, gguf: Path | None = None
    ) -> tuple[str, int]:
        """Copies an adapter's files; one that is there already stays as it is.

        `gguf` is the same for llama.cpp. Returns the path relative to <home> that an engine
        loads, and the bytes. Raises OSError.
        """
        name = short(job) if step is None else f"{short(job)}-step-{step}"
        with self._lock:
            return self._put(name, adapter, gguf)

    def _put(self, name: str, adapter: Path, gguf: Path | None) -> tuple[str, int]:
        target = self._home / FOLDER / name
        if not target.is_dir():
            part = target.with_name(f"{name}.part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            sources = {file: adapter / file for file in FILES}
            if gguf is not None:
                sources[GGUF] = gguf
            for file, source in sources.items():
                shutil.copyfile(source, part / file)
                sync(part / file)
            sync(part)
            part.rename(target)
            sync(target.parent)
        size = sum(path.stat().st_size for path in target.iterdir())
        return f"{FOLDER}/{name}" + (f"/{GGUF}" if gguf is not None else ""), size

    def clear(self, job: str, folder: Path, offered: Collection[str]) -> None:
        """Of a job that is over: its own folder, and what was put here and never offered.

        `offered` are paths as `put` gives them. Raises OSError.
        """
        kept = {Path(path).parts[1] for path in offered}
        with self._lock:
            for path in self._home.joinpath(FOLDER).glob(f"{short(job)}*"):
                if path.name not in kept:
                    shutil.rmtree(path)
            shutil.rmtree(folder)

    def remove(self, relative: str) -> None:
        """Idempotent; raises ValueError for a path elsewhere, and OSError."""
        folder, _, name = whole(relative).partition("/")
        if folder != FOLDER or not name or os.sep in name or name.startswith("."):
            raise ValueError(f"{relative!r} is no tuned model's folder")
        target = self._home / FOLDER / name
        if target.exists():
            shutil.rmtree(target)


def whole(relative: str) -> str:
    """The folder as peft has it, of what `put` gave; every engine can load that."""
    return relative.removesuffix(f"/{GGUF}")
