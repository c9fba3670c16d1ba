"""The periods of budgets: days, weeks and months of UTC. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from shared.wire.account import Period


class Span(NamedTuple):
    """One period of a budget: named by its first day; epoch ms; None: it never ends."""

    name: str
    from_ms: int
    until_ms: int | None


def span(period: Period, ts_ms: int) -> Span:
    """The period in which a request is counted that came at `ts_ms`."""
    if period == "total":
        return Span("total", 0, None)
    at = datetime.fromtimestamp(ts_ms / 1000, UTC)
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        first, after = day, day + timedelta(days=1)
    elif period == "week":
        first = day - timedelta(days=day.weekday())
        after = first + timedelta(days=7)
    else:
        first = day.replace(day=1)
        after = (first + timedelta(days=31)).replace(day=1)
    return Span(f"{first:%Y-%m-%d}", epoch_ms(first), epoch_ms(after))


def epoch_ms(at: datetime) -> int:
    return int(at.timestamp()) * 1000
