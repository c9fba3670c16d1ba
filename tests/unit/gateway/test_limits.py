"""What callers read of their limits."""

from __future__ import annotations

import pytest

from gateway.limits import duration, exhausted, headers, rate_limited
from shared.holds import Obstacle, Shortage, Standing
from shared.wire.account import Budget, Limits

KEY = Standing("key", Limits(requests_per_minute=10, tokens_per_minute=500), 4, 30_000, 100, 5_000)
PROJECT = Standing("project", Limits(requests_per_minute=12), 9, 59_000, 0, 0)


@pytest.mark.parametrize(
    ("ms", "wanted"),
    [
        (-1, "0ms"),
        (0, "0ms"),
        (120, "120ms"),
        (1000, "1s"),
        (8640, "8.64s"),
        (59_999, "59.999s"),
        (60_000, "1m0s"),
        (361_500, "6m1.5s"),
    ],
)
def test_durations_are_written_as_openai_does(ms: int, wanted: str) -> None:
    assert duration(ms) == wanted


def test_the_tightest_limit_is_told() -> None:
    assert headers([KEY, PROJECT]) == [
        (b"x-ratelimit-limit-requests", b"12"),
        (b"x-ratelimit-remaining-requests", b"3"),
        (b"x-ratelimit-reset-requests", b"59s"),
        (b"x-ratelimit-limit-tokens", b"500"),
        (b"x-ratelimit-remaining-tokens", b"400"),
        (b"x-ratelimit-reset-tokens", b"5s"),
    ]


def test_without_limits_nothing_is_told() -> None:
    assert headers([]) == []
    assert headers([Standing("key", Limits(concurrent=3), 0, 0, 0, 0)]) == []


def test_a_refusal_names_the_limit_its_owner_and_when_it_frees() -> None:
    error = rate_limited(Obstacle(KEY, "requests", 10, 12_500), 9)
    assert (error.status, error.code, error.retry_after) == (429, "rate_limit_exceeded", 12.5)
    assert "this key" in error.message
    assert "requests per minute: Limit 10, used 10" in error.message
    assert "12.5s" in error.message


def test_what_never_fits_is_told_so() -> None:
    error = rate_limited(Obstacle(KEY, "tokens", 0, None), 900)
    assert "too large" in error.message
    assert "Limit 500, used 0, requested 900" in error.message


BUDGET = Budget("budget_1", "project", "proj_1", "month", micros=2_500_000)


def test_an_exhausted_budget_says_what_became_of_it() -> None:
    error = exhausted(Shortage(BUDGET, "micros", 2_400_000, 50_000, 90_000), 200_000, 30_000)
    assert (error.status, error.code, error.retry_after) == (429, "insufficient_quota", 60.0)
    for part in ("budget_1", "project", "limit 2.5", "spent 2.4", "way 0.05", "most 0.2"):
        assert part in error.message
    assert "1970-01-01T00:01:30Z" in error.message


def test_a_budget_that_is_held_may_be_enough_soon() -> None:
    error = exhausted(Shortage(BUDGET, "micros", 0, 2_400_000, 90_000), 200_000, 30_000)
    assert error.retry_after == 1.0
    assert "under way" in error.message


def test_a_total_budget_does_not_come_back() -> None:
    whole = Budget("budget_1", "key", "key_1", "total", tokens=10)
    error = exhausted(Shortage(whole, "tokens", 10, 0, None), 1, 0)
    assert error.retry_after == 86_400
    assert "does not begin anew" in error.message
