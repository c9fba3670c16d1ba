"""Measured sizes in a real PostgreSQL, and the estimator that reads and writes them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from shared.db import Pool, connect
from shared.footprint import SETTLED, Footprint, Key
from shared.settings import DEFAULT_MODELS, Model, Settings
from shared.store import footprint
from shared.weights import WeightsError
from tests import models
from worker.estimate import Estimator

KEY = Key("cpu", "m", "llamacpp", 4096, 4)
MIB = 1 << 20


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with connect(database_url) as pool:
        yield pool


def seen(peak: int, requests: int, weights: int = 100) -> Footprint:
    return Footprint(weights=weights, adapters=7, loaded=200, peak=peak, requests=requests)


async def kept(pool: Pool, key: Key = KEY) -> tuple[int, int] | None:
    found = await footprint.find(pool, key)
    return None if found is None else (found.peak, found.requests)


async def test_what_was_measured_is_found_whole(pool: Pool) -> None:
    assert await footprint.find(pool, KEY) is None
    await footprint.record(pool, KEY, seen(300, 5))
    found = await footprint.find(pool, KEY)
    assert found is not None
    assert found.measured_at is not None
    assert msgspec.structs.replace(found, measured_at=None) == seen(300, 5)


@pytest.mark.parametrize(
    "other",
    [
        {"device": "NVIDIA RTX 4000 Ada"},
        {"model": "n"},
        {"engine": "vllm"},
        {"context": 8192},
        {"parallel": 1},
    ],
)
async def test_another_way_of_loading_is_another_size(
    other: dict[str, str | int], pool: Pool
) -> None:
    await footprint.record(pool, KEY, seen(300, 5))
    key = msgspec.structs.replace(KEY, **other)
    assert await kept(pool, key) is None
    await footprint.record(pool, key, seen(400, 5))
    assert await kept(pool) == (300, 5)
    assert await kept(pool, key) == (400, 5)


async def test_the_newest_counts_unless_it_showed_less(pool: Pool) -> None:
    await footprint.record(pool, KEY, seen(300, 5))
    await footprint.record(pool, KEY, seen(250, 4))
    assert await kept(pool) == (300, 5)
    await footprint.record(pool, KEY, seen(350, 100))
    assert await kept(pool) == (350, 100)
    await footprint.record(pool, KEY, seen(340, SETTLED))
    assert await kept(pool) == (340, SETTLED)
    await footprint.record(pool, KEY, seen(200, 0))
    assert await kept(pool) == (340, SETTLED)
    await footprint.record(pool, KEY, seen(900, 0, weights=500))
    assert await kept(pool) == (900, 0)


@pytest.fixture
def model() -> Model:
    return msgspec.structs.replace(DEFAULT_MODELS[models.CHAT], context=1024)


@pytest.fixture
def settings(home: Path) -> Settings:
    models.lend(home)
    return Settings(home=str(home))


async def test_the_next_load_is_reserved_as_measured(
    pool: Pool, settings: Settings, model: Model
) -> None:
    estimator = Estimator(pool, settings, "cpu")
    estimate, first = await estimator.reservation("chat", model)
    assert (first.basis, first.bytes) == ("estimated", estimate.total)
    loaded, peak = 270 * MIB, 320 * MIB
    await estimator.record("chat", model, estimate, loaded=loaded, peak=peak, requests=200)
    again, second = await estimator.reservation("chat", model)
    assert again == estimate
    assert second.basis == "measured"
    assert peak <= second.bytes <= peak * 1.05
    elsewhere = Estimator(pool, settings, "another machine")
    assert (await elsewhere.reservation("chat", model))[1].basis == "estimated"


async def test_nothing_measured_is_nothing_kept(
    pool: Pool, settings: Settings, model: Model
) -> None:
    estimator = Estimator(pool, settings, "cpu")
    estimate, _ = await estimator.reservation("chat", model)
    await estimator.record("chat", model, estimate, loaded=0, peak=0, requests=3)
    assert (await estimator.reservation("chat", model))[1].basis == "estimated"


async def test_loads_go_on_while_the_database_is_away(
    database_url: str, settings: Settings, model: Model
) -> None:
    async with connect(database_url) as pool:
        estimator = Estimator(pool, settings, "cpu")
    estimate, taken = await estimator.reservation("chat", model)
    assert taken.basis == "estimated"
    await estimator.record("chat", model, estimate, loaded=1, peak=1, requests=1)


async def test_files_that_are_missing_are_named(pool: Pool, settings: Settings) -> None:
    lost = Model(engine="llamacpp", file="lost.gguf")
    with pytest.raises(WeightsError, match=r"lost\.gguf is missing"):
        await Estimator(pool, settings, "cpu").reservation("lost", lost)
    remote = Model(engine="openai", url="http://127.0.0.1:9/v1")
    with pytest.raises(WeightsError, match="upstream server"):
        await Estimator(pool, settings, "cpu").reservation("remote", remote)
