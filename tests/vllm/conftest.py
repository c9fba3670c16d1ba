"""One vLLM for all tests: to start it takes longer than all they ask of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.server import temporary_home
from tests.vllm.made import made
from worker.engines.vllm import Vllm

DEFAULTS = {"engine": "vllm", "max_lora_rank": 8, "max_loras": 2, "tool_parser": "hermes"}


def engine(home: Path, **changes: object) -> Vllm:
    """Not started."""
    return made(Vllm, home, 4096, **{**DEFAULTS, **changes})


@pytest.fixture(scope="session")
def vllm_home() -> Iterator[Path]:
    with temporary_home() as path:
        yield path


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def vllm(vllm_home: Path) -> AsyncIterator[Vllm]:
    started = engine(vllm_home)
    await started.start()
    yield started
    await started.stop()
