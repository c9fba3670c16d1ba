"""One child with the embedded chat model for all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.server import temporary_home
from tests.vllm.made import made
from worker.engines.transformers import Transformers

DEFAULTS = {"engine": "transformers", "threads": 2}


def engine(home: Path, **changes: object) -> Transformers:
    """Not started."""
    return made(Transformers, home, 2048, **{**DEFAULTS, **changes})


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    with temporary_home() as path:
        yield path


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def base(home: Path) -> AsyncIterator[Transformers]:
    started = engine(home)
    await started.start()
    yield started
    await started.stop()
