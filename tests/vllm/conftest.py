"""One vLLM for all tests: to start it takes longer than all they ask of it."""

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
from worker.engines.vllm import Vllm

CONTEXT = 1024
MIB = 1 << 20


def engine(home: Path, **changes: object) -> Vllm:
    """Not started. The reservation is of a machine of 8 GiB."""
    model = Model(
        **{
            "engine": "vllm",
            "weights": str(place.weights()),
            "python": place.python(),
            "context": CONTEXT,
            "max_lora_rank": 8,
            "max_loras": 2,
            "tool_parser": "hermes",
            **changes,
        }  # type: ignore[arg-type]
    )
    given = Reservation(total=8192 * MIB, granted=4096 * MIB, kv=256 * MIB)
    made = build("base", model, Settings(home=str(home)), given)
    assert isinstance(made, Vllm)
    return made


@pytest.fixture(scope="session")
def vllm_home() -> Iterator[Path]:
    with temporary_home() as path:
        yield path


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def vllm(vllm_home: Path) -> AsyncIterator[Vllm]:
    made = engine(vllm_home)
    await made.start()
    yield made
    await made.stop()
