from __future__ import annotations

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.semantic import bound
from gateway.semantic.shadow import state
from shared.wire.account import SemanticCache
from shared.wire.semantic import Trial


@pytest.mark.parametrize(
    ("wrong", "checked", "expected"),
    [
        (0, 0, 1.0),
        (0, 59, 0.0495),
        (0, 299, 0.00997),
        (1, 10, 0.3942),
        (5, 5, 1.0),
        (2, 100, 0.0616),
    ],
)
def test_clopper_and_pearson(wrong: int, checked: int, expected: float) -> None:
    assert bound.upper_bound(wrong, checked) == pytest.approx(expected, rel=2e-3)


@given(st.integers(1, 200), st.data())
def test_exactly_five_percent_would_find_so_few(checked: int, data: st.DataObject) -> None:
    wrong = data.draw(st.integers(0, checked - 1))
    share = bound.upper_bound(wrong, checked)
    found = sum(
        comb(checked, k) * share**k * (1 - share) ** (checked - k) for k in range(wrong + 1)
    )
    assert found == pytest.approx(0.05, rel=1e-6)


def test_more_checks_and_fewer_wrong_lower_it() -> None:
    assert bound.upper_bound(1, 100) > bound.upper_bound(1, 200) > bound.upper_bound(0, 200)
    assert bound.upper_bound(3, 1_000_000) == pytest.approx(7.75e-6, rel=1e-2)


@pytest.mark.parametrize(("wrong", "checked"), [(-1, 3), (4, 3)])
def test_impossible_counts_are_refused(wrong: int, checked: int) -> None:
    with pytest.raises(ValueError, match="checked"):
        bound.upper_bound(wrong, checked)


@given(st.floats(0.0005, 0.999))
def test_as_many_right_ones_as_required_prove_it(limit: float) -> None:
    needed = bound.required(limit)
    assert bound.upper_bound(0, needed) <= limit + 1e-12
    assert needed == 1 or bound.upper_bound(0, needed - 1) > limit


def test_required_at_the_ends() -> None:
    assert bound.required(1) == 0
    with pytest.raises(ValueError, match="rules out"):
        bound.required(0)


def test_a_wrong_hit_early_turns_it_off_and_one_among_many_does_not() -> None:
    assert bound.reason_to_turn_off(0, 1, 0.01) is None
    early = bound.reason_to_turn_off(1, 1, 0.01)
    assert early is not None
    assert early.startswith("1 of 1 checked hits were wrong")
    assert bound.reason_to_turn_off(1, 473, 0.01) is None
    assert bound.reason_to_turn_off(1, 472, 0.01) is not None
    assert bound.reason_to_turn_off(2, 473, 0.01) is not None
    assert bound.reason_to_turn_off(9, 9, 1.0) is None


def test_all_hits_are_checked_until_it_is_proven() -> None:
    assert bound.checked_share(298, 0.01, 0.05) == 1.0
    assert bound.checked_share(299, 0.01, 0.05) == 0.05


@pytest.mark.parametrize(
    ("trial", "enabled", "expected"),
    [
        (Trial(checked=299), False, "off"),
        (Trial(checked=298), True, "unproven"),
        (Trial(checked=299), True, "proven"),
        (Trial(checked=9, wrong=1, off_since=1, off_reason="x"), True, "turned_off"),
    ],
)
def test_state(trial: Trial, enabled: bool, expected: str) -> None:
    assert state(trial, SemanticCache(enabled=enabled)) == expected
