"""What a model's settings say of its adapters, as the worker sees it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from shared.settings import Model, Settings
from shared.wire.task import Adapter


class Adapting(NamedTuple):
    """What the settings say of a model's adapters."""

    bound: int
    """The most that are loaded."""
    listed: tuple[Adapter, ...]
    """Those to be loaded from the start, as far as the bound goes."""
    folder: Path
    """What their paths are relative to."""
    counted: bool
    """Whether one takes memory when it is loaded; else its engine took it at the start."""


def adapting(model: Model, settings: Settings, listed: tuple[Adapter, ...]) -> Adapting:
    """vLLM takes the memory of its adapters on a card at its start."""
    return Adapting(
        model.loaded_adapters,
        listed,
        settings.folder / "models",
        counted=model.engine != "vllm" or settings.device.startswith("cpu"),
    )
