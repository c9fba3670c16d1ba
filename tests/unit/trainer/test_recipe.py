"""Hyperparameters are a function of base, data, device and wishes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.recipe import (
    Base,
    Data,
    Site,
    Wishes,
    auto_epochs,
    candidates,
    fitting,
    recipe,
)

SMALL = Base(parameters=135_000_000, hidden=576, context=8192)
LARGE = Base(parameters=7_600_000_000, hidden=3584, context=32768)
CPU = Site(device="cpu")
CARD = Site(device="cuda", bf16=True)


def data(examples: int, longest: int = 300) -> Data:
    return Data(examples=examples, tokens=200, longest=longest, p99=longest, validated=True)


@pytest.mark.parametrize(
    ("examples", "epochs"),
    [(1, 25), (4, 25), (10, 10), (33, 4), (34, 3), (8333, 3), (8334, 2), (30_000, 1)],
)
def test_epochs_by_the_published_rule(examples: int, epochs: int) -> None:
    assert auto_epochs(examples)[0] == epochs


@given(
    st.integers(1, 50_000),
    st.none() | st.integers(1, 50),
    st.none() | st.integers(1, 256),
    st.sampled_from([SMALL, LARGE]),
    st.sampled_from([CPU, CARD]),
    st.integers(10, 100_000),
)
def test_wishes_are_kept_and_the_rest_is_within_bounds(
    examples: int, epochs: int | None, batch: int | None, base: Base, site: Site, longest: int
) -> None:
    found = recipe(base, data(examples, longest), site, Wishes(epochs=epochs, batch=batch))
    made = found.hyperparameters
    assert 1 <= made.batch <= examples
    assert found.steps == made.epochs * math.ceil(examples / made.batch)
    assert epochs is None or made.epochs == epochs
    assert batch is None or made.batch == min(batch, examples)
    assert made.max_length <= base.context
    assert made.max_length >= min(longest, base.context)
    assert 1 <= made.checkpoint_every <= found.steps
    named = {reason.name for reason in found.reasons}
    assert ("n_epochs" in named) == (epochs is None)
    assert ("batch_size" in named) == (batch is None)


def test_a_small_file_still_has_steps_to_learn_in() -> None:
    found = recipe(SMALL, data(36), CPU, Wishes())
    assert found.hyperparameters.epochs == 3
    assert found.steps >= 30


def test_what_the_device_changes() -> None:
    there = recipe(LARGE, data(500), CARD, Wishes()).hyperparameters
    assert (there.quantise, there.dtype, there.optimiser) == ("nf4", "bfloat16", "paged_adamw_8bit")
    assert there.checkpointing
    here = recipe(LARGE, data(500), CPU, Wishes()).hyperparameters
    assert (here.quantise, here.dtype, here.optimiser) == ("none", "float32", "adamw")
    assert not here.checkpointing
    asked = recipe(SMALL, data(500), CPU, Wishes(quantise="nf4")).hyperparameters
    assert asked.quantise == "nf4"
    old = recipe(LARGE, data(500), Site(device="cuda"), Wishes()).hyperparameters
    assert old.dtype == "float16"


def test_the_rate_follows_width_method_and_multiplier() -> None:
    def rate(base: Base, **wishes: object) -> float:
        made = recipe(base, data(500), CPU, Wishes(**wishes))  # type: ignore[arg-type]
        return made.hyperparameters.learning_rate

    assert rate(SMALL) > rate(LARGE)
    assert rate(SMALL, learning_rate_multiplier=2.0) == pytest.approx(2 * rate(SMALL))
    assert rate(SMALL, method="dpo") == pytest.approx(rate(SMALL) / 4)
    assert rate(SMALL, method="dpo", learning_rate=0.004) == 0.004


@pytest.mark.parametrize(
    ("wishes", "rank"),
    [
        (Wishes(), 16),
        (Wishes(largest_rank=64), 16),
        (Wishes(largest_rank=8), 8),
        (Wishes(largest_rank=64, rank=32), 32),
    ],
)
def test_the_rank_is_one_that_its_engines_take(wishes: Wishes, rank: int) -> None:
    made = recipe(SMALL, data(500), CPU, wishes).hyperparameters
    assert (made.rank, made.alpha) == (rank, 2 * rank)


@given(st.integers(1, 64), st.integers(0, 100))
def test_the_largest_batch_that_fits_and_the_same_step(batch: int, room: int) -> None:
    made = recipe(SMALL, data(500), CPU, Wishes(batch=batch)).hyperparameters
    found = fitting(made, lambda each: 10 + each.batch, room)
    if found is None:
        assert room < 11
        return
    assert found.batch * found.accumulation == batch
    assert 10 + found.batch <= room
    larger = [each.batch for each in candidates(made) if each.batch > found.batch]
    assert all(10 + each > room for each in larger)


def test_a_rate_that_is_asked_for_is_taken() -> None:
    found = recipe(SMALL, data(50), CPU, Wishes(learning_rate=3e-3))
    assert found.hyperparameters.learning_rate == 3e-3
    assert "learning_rate" not in {reason.name for reason in found.reasons}
    twice = recipe(SMALL, data(50), CPU, Wishes(learning_rate=3e-3, learning_rate_multiplier=2.0))
    assert twice.hyperparameters.learning_rate == 6e-3
