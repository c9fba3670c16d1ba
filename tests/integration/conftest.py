"""What several files of tests over the wire or a database begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shared.db import Pool, connect
from shared.settings import Settings
from tests.gateway import running_gateway
from tests.integration.fine_tuning import LINE, TOML, Place
from tests.trainers import Trainer, running_trainer


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with connect(database_url) as pool:
        yield pool


@pytest.fixture
async def quick(home: Path, database_url: str, valkey_url: str) -> AsyncIterator[Trainer]:
    async with running_trainer(home, database_url, valkey_url) as trainer:
        yield trainer


@pytest.fixture
async def slow(home: Path, database_url: str, valkey_url: str) -> AsyncIterator[Trainer]:
    async with running_trainer(home, database_url, valkey_url, seconds=0.1) as trainer:
        yield trainer


@pytest.fixture
def place(database_url: str, valkey_url: str, home: Path) -> Iterator[Place]:
    (home / "datasets").mkdir()
    (home / "datasets" / "a.jsonl").write_text(LINE * 10)
    (home / "b.jsonl").write_text(LINE)
    settings = Settings(home=str(home), database_url=database_url, redis_url=valkey_url)
    with running_gateway(settings, TOML) as base_url:
        place = Place(base_url, database_url)
        try:
            yield place
        finally:
            place.sdk.close()
