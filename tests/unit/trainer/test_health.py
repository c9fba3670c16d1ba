"""When a run is called lost, and when an adapter is not to be published."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.health import divergence, refusal, repeating, repeats
from trainer.report import Metrics, Sample


@given(st.lists(st.floats(0.0, 2.0), max_size=60))
def test_losses_that_stay_small_are_never_called_lost(losses: list[float]) -> None:
    assert divergence(losses) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number(bad: float) -> None:
    assert "not a number" in (divergence([2.0, bad]) or "")


def test_a_loss_that_rises_far_and_stays_there() -> None:
    falling = [3.0, 2.5, 2.0, 1.5, 1.2, 1.0, 0.9]
    assert divergence([*falling, 9.0]) is None, "one bad batch"
    assert "learning rate" in (divergence([*falling, *[9.0] * 5]) or "")


def test_what_counts_as_a_repeat() -> None:
    assert repeats("the cat sat " * 8)
    assert repeats("!" * 60)
    assert not repeats("the cat sat")
    assert not repeats(
        "Kestrels hover over open fields, heads still in the wind, until something small moves"
        " in the grass below; then they drop."
    )


def test_repeats_count_only_where_the_base_has_none() -> None:
    loop = "again and again " * 8
    samples = [
        Sample(prompt="a", base="fine", tuned=loop),
        Sample(prompt="b", base=loop, tuned=loop),
        Sample(prompt="c", base="fine", tuned="fine"),
    ]
    assert repeating(samples) == pytest.approx(1 / 3)
    assert repeating([]) == 0.0


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (Metrics(train_loss=0.1), None),
        (Metrics(train_loss=0.1, valid_loss=1.9, base_valid_loss=2.0), None),
        (Metrics(train_loss=0.1, valid_loss=2.0, base_valid_loss=2.0), None),
        (Metrics(train_loss=0.1, valid_loss=2.1, base_valid_loss=2.0), "worse than its base"),
        (Metrics(train_loss=0.1, valid_loss=math.nan, base_valid_loss=2.0), "not a number"),
        (Metrics(train_loss=math.nan), "not a number"),
        (Metrics(train_loss=0.1, repeating=0.5), None),
        (Metrics(train_loss=0.1, repeating=0.75), "75% of the test prompts"),
    ],
)
def test_what_is_refused(metrics: Metrics, said: str | None) -> None:
    found = refusal(metrics)
    assert found is None if said is None else said in (found or "")
