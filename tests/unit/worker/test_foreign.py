from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from worker.foreign import beyond, step, told

GIB = 1 << 30
CARD = 16 * GIB
READINGS = st.lists(st.integers(0, CARD), min_size=1, max_size=40)


def test_what_others_use_is_what_is_missing() -> None:
    assert beyond(CARD, available=16 * GIB, ours=0, quarantined=0) == 0
    assert beyond(CARD, available=5 * GIB, ours=8 * GIB, quarantined=GIB) == 2 * GIB


def test_others_use_first_what_is_not_ours_to_give() -> None:
    """A budget of 16 GiB on a card of 24, of which others use 10."""
    assert beyond(CARD, available=14 * GIB, ours=0, quarantined=0) == 2 * GIB
    assert beyond(CARD, available=9 * GIB, ours=5 * GIB, quarantined=0) == 2 * GIB


def test_more_than_the_capacity_is_all_of_it() -> None:
    assert beyond(CARD, available=0, ours=0, quarantined=0) == CARD
    assert beyond(CARD, available=-GIB, ours=0, quarantined=0) == CARD


def test_nobody_is_nobody() -> None:
    assert told(0, 0, CARD) == 0
    assert told(3 * GIB, 0, CARD) == 0


@given(READINGS)
def test_never_less_than_what_is_there(readings: list[int]) -> None:
    known = 0
    for reading in readings:
        known = told(known, reading, CARD)
        assert reading <= known <= min(CARD, reading + 3 * step(CARD))


@given(st.integers(0, CARD - 2 * step(CARD)), st.lists(st.integers(0, step(CARD) // 2), min_size=2))
def test_noise_is_told_once_at_most(level: int, noise: list[int]) -> None:
    known = [told(0, level, CARD)]
    for each in noise:
        known.append(told(known[-1], level + each, CARD))
    assert sum(before != after for before, after in pairwise(known)) <= 1
    assert known == sorted(known)
