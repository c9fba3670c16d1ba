from __future__ import annotations

import pytest
from msgspec.structs import replace

from shared.estimate import Estimate
from shared.footprint import SETTLED, Footprint, newer, reserve

ESTIMATE = Estimate(
    engine="llamacpp",
    device="cpu",
    context=4096,
    parallel=4,
    weights=1000,
    kv_cache=500,
    activations=100,
    logits=10,
    runtime=90,
    adapters=50,
    margin=50,
    filling=110,
)


def footprint(loaded: int, peak: int, requests: int, **more: int) -> Footprint:
    values = {"weights": 1000, "adapters": 50} | more
    return Footprint(loaded=loaded, peak=peak, requests=requests, **values)


def test_the_first_load_takes_the_estimate() -> None:
    taken = reserve(ESTIMATE, None)
    assert (taken.bytes, taken.basis, taken.measured) == (1800, "estimated", None)


@pytest.mark.parametrize(
    ("seen", "bytes", "basis"),
    [
        (footprint(1500, 1500, 0), 1642, "loaded"),
        (footprint(1500, 1700, SETTLED - 1), 1734, "loaded"),
        (footprint(1500, 1550, SETTLED), 1581, "measured"),
        (footprint(1500, 1550, SETTLED, adapters=0), 1631, "measured"),
        (footprint(1500, 1550, SETTLED, weights=999), 1800, "estimated"),
    ],
)
def test_the_next_load_takes_what_was_measured(seen: Footprint, bytes: int, basis: str) -> None:
    taken = reserve(ESTIMATE, seen)
    assert (taken.bytes, taken.basis, taken.estimated) == (bytes, basis, 1800)


def test_a_prompt_cache_may_still_fill() -> None:
    cached = replace(ESTIMATE, prompt_cache=60)
    early = reserve(cached, footprint(1500, 1520, SETTLED)).bytes
    assert early == int((1520 + 60) * 1.02)
    nearly = reserve(cached, footprint(1500, 1590, SETTLED)).bytes
    assert nearly == int((1500 + 110) * 1.02), "no more than the load and all that fills"
    full = reserve(cached, footprint(1500, 1700, SETTLED)).bytes
    assert full == int(1700 * 1.02)


def test_the_footprint_to_go_by_is_the_newest_that_showed_its_most() -> None:
    first, brief, full = footprint(200, 250, 3), footprint(200, 210, 1), footprint(200, 300, 99)
    assert newer(None, brief) == brief
    assert newer(first, brief) == first
    assert newer(first, full) == full
    assert newer(full, first) == full
    assert newer(full, footprint(200, 280, SETTLED)).peak == 280
    assert newer(full, footprint(500, 510, 0, weights=7)).weights == 7


def test_no_less_than_what_was_too_little() -> None:
    seen = footprint(900, 950, SETTLED)
    before = reserve(ESTIMATE, seen)
    assert reserve(ESTIMATE, seen, before.bytes) == before
    grown = reserve(ESTIMATE, seen, before.bytes + 1)
    assert (grown.bytes, grown.basis) == (before.bytes + 1, "grown")
