"""The model files the tests run on: the embedded default's, made once for all runs."""

from __future__ import annotations

import os
from pathlib import Path

from deploy import model_store
from shared.settings import DEFAULT_MODELS, Settings

CHAT = "smollm2-135m-instruct"
EMBEDDING = "all-minilm-l6-v2"


def folder() -> Path:
    """The prepared model folder, shared by all runs of this user; the first call makes it."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    home = Path(cache) / "aihub-tests"
    model_store.prepare(Settings(home=str(home), models=DEFAULT_MODELS), print)
    return home / "models"


def lend(home: Path) -> None:
    """Give a hub's home the prepared models."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / "models").symlink_to(folder(), target_is_directory=True)
