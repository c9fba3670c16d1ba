from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from deploy import backoff


def starts(lives: list[float]) -> list[float]:
    """When each run begins on a clock that only moves by lives and pauses."""
    clock, last, begun = 0.0, 0.0, []
    for served in lives:
        begun.append(round(clock, 3))
        last = backoff.pause(last, served)
        clock += served + last
    return begun


def test_the_pause_doubles_to_its_bound() -> None:
    begun = starts([0.0] * 9)
    pauses = [round(b - a, 3) for a, b in pairwise(begun)]
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_a_healthy_minute_is_forgiven() -> None:
    assert starts([0, 0, 60, 0, 0]) == [0, 0.2, 0.6, 60.8, 61.2]


def test_less_than_a_minute_is_not() -> None:
    assert starts([0, 0, 59, 0]) == [0, 0.2, 0.6, 60.4]


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=50))
def test_every_pause_is_bounded(lives: list[float]) -> None:
    last = 0.0
    for served in lives:
        last = backoff.pause(last, served)
        assert backoff.FIRST <= last <= backoff.LONGEST
