"""Periods of budgets, and what an account's requests hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import holds
from shared.period import Span, span
from shared.wire.account import Account, Budget, Limits, Period
from shared.wire.hold import decode, encode, read_tallies

FREE = Account("key_1", "proj_1", "org", "k", ())


def ms(*at: int) -> int:
    return int(datetime(*at, tzinfo=UTC).timestamp()) * 1000  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("period", "wanted"),
    [
        ("day", Span("2026-11-23", ms(2026, 11, 23), ms(2026, 11, 24))),
        ("week", Span("2026-11-23", ms(2026, 11, 23), ms(2026, 11, 30))),
        ("month", Span("2026-11-01", ms(2026, 11, 1), ms(2026, 12, 1))),
        ("total", Span("total", 0, None)),
    ],
)
def test_periods_are_utc_and_weeks_begin_on_monday(period: Period, wanted: Span) -> None:
    assert span(period, ms(2026, 11, 23, 13, 14)) == wanted


@given(
    period=st.sampled_from(["day", "week", "month"]),
    at=st.integers(ms(2020, 1, 1), ms(2060, 1, 1)),
)
def test_periods_follow_each_other_without_a_gap(period: Period, at: int) -> None:
    found = span(period, at)
    assert found.until_ms is not None
    assert found.from_ms <= at < found.until_ms
    assert span(period, found.until_ms - 1) == found
    after = span(period, found.until_ms)
    assert (after.from_ms, after.name != found.name) == (found.until_ms, True)
    assert found.from_ms % int(timedelta(hours=1).total_seconds() * 1000) == 0


def test_who_has_neither_limit_nor_budget_holds_nothing() -> None:
    assert holds.of_account(FREE, 0, 0, 10, 10) is None


def test_a_hold_names_what_counts_it() -> None:
    account = Account(
        "key_1",
        "proj_1",
        "org",
        "k",
        (),
        project_limits=Limits(tokens_per_minute=7),
        budgets=(Budget("budget_1", "key", "key_1", "month", micros=5),),
    )
    at = ms(2026, 11, 23)
    hold = holds.of_account(account, at, at + 1000, 10, 20)
    assert hold is not None
    own, projects = read_tallies(hold.tallies)
    assert decode(encode(hold)) == hold
    assert own.name == "aihub:tally:key:key_1"
    assert (own.requests, own.tokens, own.concurrent) == (0, 0, 0)
    assert projects.name == "aihub:tally:project:proj_1"
    assert (projects.requests, projects.tokens, projects.concurrent) == (0, 7, 0)
    assert not projects.draws
    (draw,) = own.draws
    assert (draw.tokens, draw.micros) == (-1, 5)
    assert draw.expires_ms > ms(2026, 12, 1)
    assert (hold.tokens, hold.micros) == (10, 20)
    assert hold.until_ms > at + 1000
