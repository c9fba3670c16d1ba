"""Lengths in few numbers."""

from __future__ import annotations

from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from trainer.estimate import Peak, estimate
from trainer.survey import COARSE, FINE, bucket, percentile


@given(st.integers(0, 10_000_000))
def test_a_bucket_is_never_too_short_and_hardly_too_long(length: int) -> None:
    assert length <= bucket(length) < length + COARSE
    if length < FINE:
        assert bucket(length) == length


@given(st.lists(st.integers(0, 500), min_size=1), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_percentile_is_a_length_that_enough_do_not_exceed(
    lengths: list[int], share: float
) -> None:
    found = percentile(Counter(lengths), share)
    assert found in lengths
    below = sum(length <= found for length in lengths)
    assert below >= share * len(lengths) - 1e-6
    assert sum(length < found for length in lengths) < share * len(lengths) + 1e-6


def test_a_percentile_of_nothing() -> None:
    assert percentile({}, 0.5) == 0


def test_an_estimate_is_its_terms() -> None:
    peak = Peak(peak=1000 << 20, base=600 << 20, adapter=10 << 20, optimiser=5 << 20, trainable=1)
    told = estimate(peak, "cuda")
    assert told.total == (1000 << 20) + told.allocator + told.runtime
    assert told.activations == 385 << 20
    here, quantised = (
        estimate(each, "cpu").total
        for each in (peak, msgspec.structs.replace(peak, unpacked=300 << 20))
    )
    assert quantised - here == 300 << 20
