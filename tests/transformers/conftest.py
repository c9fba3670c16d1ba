"""One child with the embedded chat model for all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from shared.settings import Model, Settings
from tests.server import temporary_home
from tests.vllm import place
from worker.engines.base import Reservation
from worker.engines.registry import build
from worker.engines.transformers import Transformers

CONTEXT = 1024
MIB = 1 << 20


def engine(home: Path, **changes: object) -> Transformers:
    """Not started. The reservation is of a machine of 8 GiB."""
    model = Model(
        **{
            "engine": "transformers",
            "weights": str(place.weights()),
            "python": place.python(),
            "context": CONTEXT,
            "threads": 2,
            **changes,
        }  # type: ignore[arg-type]
    )
    given = Reservation(total=8192 * MIB, granted=2048 * MIB, kv=256 * MIB)
    made = build("base", model, Settings(home=str(home)), given)
    assert isinstance(made, Transformers)
    return made


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    with temporary_home() as path:
        yield path


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def base(home: Path) -> AsyncIterator[Transformers]:
    made = engine(home)
    await made.start()
    yield made
    await made.stop()
