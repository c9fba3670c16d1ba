"""Measured sizes in a real PostgreSQL."""

from __future__ import annotations

import msgspec
import pytest

from shared.db import Pool
from shared.footprint import SETTLED, Footprint, Key
from shared.store import footprint

KEY = Key("cpu", "m", "llamacpp", 4096, 4)


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


async def test_what_was_too_little_is_kept_for_these_weights(pool: Pool) -> None:
    assert await footprint.find_shortfall(pool, KEY, 100) == 0
    await footprint.record_shortfall(pool, KEY, 100, 500)
    assert await footprint.find_shortfall(pool, KEY, 100) == 500
    assert await footprint.find_shortfall(pool, KEY, 101) == 0
    other = msgspec.structs.replace(KEY, context=8192)
    assert await footprint.find_shortfall(pool, other, 100) == 0
    await footprint.record_shortfall(pool, KEY, 101, 400)
    assert await footprint.find_shortfall(pool, KEY, 101) == 400
    assert await footprint.find_shortfall(pool, KEY, 100) == 0
