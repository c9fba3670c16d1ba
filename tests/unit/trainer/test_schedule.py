"""The learning rate rises, then falls, and no step is in vain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.schedule import rise, share


@given(st.integers(1, 500), st.floats(0.0, 1.0))
def test_every_step_learns_and_the_highest_rate_is_reached(steps: int, warmup: float) -> None:
    rising = rise(steps, warmup)
    shares = [share(step, steps, rising) for step in range(steps)]
    assert all(0.0 < each <= 1.0 for each in shares)
    assert max(shares) == 1.0
    top = shares.index(1.0)
    assert shares[: top + 1] == sorted(shares[: top + 1])
    assert shares[top:] == sorted(shares[top:], reverse=True)


def test_a_short_job() -> None:
    assert [share(step, 6, rise(6, 0.1)) for step in range(7)] == pytest.approx(
        [1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
    )
