"""Engines on torch as their tests have them: the embedded chat model on a machine of 8 GiB."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from shared.settings import Model, Settings
from tests.vllm import place
from worker.engines.base import Reservation
from worker.engines.registry import build
from worker.engines.torch_engine import TorchEngine

CONTEXT = 1024
MIB = 1 << 20
Kind = TypeVar("Kind", bound=TorchEngine)


def made(kind: type[Kind], home: Path, granted: int, /, **changes: object) -> Kind:
    """Not started; `granted` are the MiB that it may take."""
    settings = {
        "weights": str(place.weights()),
        "python": place.python(),
        "context": CONTEXT,
        **changes,
    }
    given = Reservation(total=8192 * MIB, granted=granted * MIB, kv=256 * MIB)
    model = Model(**settings)  # type: ignore[arg-type]
    engine = build("base", model, Settings(home=str(home)), given)
    assert isinstance(engine, kind)
    return engine
