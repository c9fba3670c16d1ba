"""Dividing what is used together: nothing is lost, nothing given twice."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.split import Split

STEPS = st.lists(
    st.tuples(st.floats(0, 100), st.sampled_from(["enter", "leave"]), st.integers(0, 7)),
    max_size=60,
)


def test_who_is_alone_has_it_all() -> None:
    split = Split()
    mark = split.enter(10)
    assert split.leave(25, mark) == 15


def test_who_comes_later_shares_from_then_on() -> None:
    split = Split()
    first = split.enter(0)
    second = split.enter(10)
    assert split.leave(30, second) == 10
    assert split.leave(35, first) == 10 + 10 + 5


def test_what_grows_while_nobody_is_present_is_nobodys() -> None:
    split = Split()
    split.leave(5, split.enter(0))
    assert split.leave(1_010, split.enter(1_000)) == 10


def test_a_reading_that_was_an_overestimate_is_made_good() -> None:
    split = Split()
    mark = split.enter(0)
    other = split.enter(12)
    assert split.leave(10, other) == 0
    assert split.leave(20, mark) == 12 + 8


@given(STEPS)
def test_the_parts_are_the_whole(steps: list[tuple[float, str, int]]) -> None:
    split = Split()
    inside: list[float] = []
    parts, shared, now = 0.0, 0.0, 0.0
    for later, (_, what, which) in zip(accumulate(step[0] for step in steps), steps, strict=True):
        shared += later - now if inside else 0
        now = later
        if what == "enter":
            inside.append(split.enter(now))
        elif inside:
            part = split.leave(now, inside.pop(which % len(inside)))
            assert part >= 0
            parts += part
    parts += sum(split.leave(now, mark) for mark in inside)
    assert parts == pytest.approx(shared, abs=1e-6)
