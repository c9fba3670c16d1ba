"""The embedded engine with the hub's own models, for tests that start it themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from shared.settings import DEFAULT_MODELS, Model, Settings
from worker.engines.llamacpp import LlamaCpp
from worker.engines.registry import build


def engine(home: Path, name: str, **changes: Any) -> LlamaCpp:
    model: Model = msgspec.structs.replace(DEFAULT_MODELS[name], threads=1, **changes)
    made = build(name, model, Settings(home=str(home)))
    assert isinstance(made, LlamaCpp)
    return made
