"""When a run is called lost, and when an adapter is not to be published."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.health import LAST, Trend, refusal, repeating, repeats
from trainer.report import Metrics, Sample


def verdicts(losses: list[float]) -> list[str | None]:
    trend = Trend()
    return [trend.add(loss) for loss in losses]


@given(st.lists(st.floats(0.0, 2.0), max_size=60))
def test_losses_that_stay_small_are_never_called_lost(losses: list[float]) -> None:
    assert set(verdicts(losses)) <= {None}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number(bad: float) -> None:
    assert verdicts([2.0, bad]) == [None, "The loss of step 2 is not a number."]


def test_a_loss_that_rises_far_and_stays_there() -> None:
    falling = [3.0, 2.5, 2.0, 1.5, 1.2, 1.0, 0.9]
    assert verdicts([*falling, 9.0, 0.9, 0.9, 0.9, 0.9, 0.9])[-1] is None, "one bad batch"
    found = verdicts([*falling, *[9.0] * 5])
    assert set(found[:8]) == {None}
    assert "learning rate" in (found[-1] or "")


@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=60))
def test_what_is_kept_of_the_losses_is_bounded_and_can_be_stored(losses: list[float]) -> None:
    trend = Trend()
    for loss in losses:
        trend.add(loss)
        trend = msgspec.json.decode(msgspec.json.encode(trend), type=Trend)
    assert trend.steps == len(losses)
    assert trend.recent == losses[-LAST:]
    assert trend.mean == pytest.approx(sum(losses[-LAST:]) / len(losses[-LAST:]))


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
