"""What a caller is told of limits and budgets: OpenAI's headers, and why a request is refused."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache

from gateway.exchange import Header
from shared.errors import BudgetExhausted, RateLimited
from shared.holds import Obstacle, Shortage, Standing

MINUTE_MS = 60_000
MICROS = 1_000_000
SOON = 1.0
"""Seconds until what requests under way hold may be free again."""
LONG = 86_400.0
"""…until somebody may have raised a budget."""
NAMES = {
    "requests": "requests per minute",
    "tokens": "tokens per minute",
    "concurrent": "requests at a time",
}
REQUESTS = (
    b"x-ratelimit-limit-requests",
    b"x-ratelimit-remaining-requests",
    b"x-ratelimit-reset-requests",
)
TOKENS = (
    b"x-ratelimit-limit-tokens",
    b"x-ratelimit-remaining-tokens",
    b"x-ratelimit-reset-tokens",
)
UNITS = {"tokens": "tokens", "micros": "of money"}
WHOLE = {"day": "today's", "week": "this week's", "month": "this month's", "total": "whole"}

Level = tuple[int, int, int]
"""What is left of a limit, the limit, ms until all of it is."""


def headers(standings: Sequence[Standing]) -> list[Header]:
    """Of the limits closest to their end; none where there is no limit.

    A limit stands at its beginning again when its last request or token is a minute old.
    """
    requests: Level | None = None
    tokens: Level | None = None
    for one in standings:
        limit = one.limits.requests_per_minute
        if limit is not None:
            level = (limit - one.requests, limit, one.requests_ms)
            requests = level if requests is None else min(requests, level)
        limit = one.limits.tokens_per_minute
        if limit is not None:
            level = (limit - one.tokens, limit, one.tokens_ms)
            tokens = level if tokens is None else min(tokens, level)
    return told(REQUESTS, requests) + told(TOKENS, tokens)


def told(names: tuple[bytes, bytes, bytes], level: Level | None) -> list[Header]:
    if level is None:
        return []
    left, limit, reset = level
    first, last = around(names, limit, reset)
    return [first, (names[1], b"%d" % max(0, left)), last]


@lru_cache(256)
def around(names: tuple[bytes, bytes, bytes], limit: int, reset: int) -> tuple[Header, Header]:
    """The limit and its reset, which are the same for most requests."""
    return (names[0], b"%d" % limit), (names[2], duration(reset).encode())


@lru_cache(64)
def duration(ms: int) -> str:
    """As OpenAI writes it: 120ms, 1.5s, 6m0s."""
    if ms < 1000:
        return f"{max(0, ms)}ms"
    minutes, rest = divmod(ms, MINUTE_MS)
    seconds = f"{rest / 1000:.3f}".rstrip("0").rstrip(".")
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def rate_limited(found: Obstacle, tokens: int) -> RateLimited:
    """The error of a request of at most `tokens` that a limit refuses."""
    limits, owner = found.standing.limits, found.standing.owner
    limit = {
        "requests": limits.requests_per_minute,
        "tokens": limits.tokens_per_minute,
        "concurrent": limits.concurrent,
    }[found.what]
    of = f"Limit {limit}, used {found.used}"
    if found.what == "tokens":
        of += f", requested {tokens}"
    if found.frees_ms is None:
        return RateLimited(
            f"Request too large for this {owner}'s {NAMES[found.what]}: {of}."
            " Send less text or a smaller max_tokens.",
            retry_after=MINUTE_MS / 1000,
        )
    seconds = max(found.frees_ms, 1) / 1000
    return RateLimited(
        f"Rate limit of this {owner} reached on {NAMES[found.what]}: {of}."
        f" Please try again in {duration(found.frees_ms)}.",
        retry_after=seconds,
    )


def exhausted(found: Shortage, need: int, now_ms: int) -> BudgetExhausted:
    """The error of a request that may take `need` more than is left."""
    budget = found.budget
    limit = budget.tokens if found.what == "tokens" else budget.micros
    assert limit is not None
    over = found.spent + need > limit
    sums = ", ".join(
        f"{name} {amount(found.what, value)}"
        for name, value in (
            ("limit", limit),
            ("spent", found.spent),
            ("held by requests under way", found.held),
            ("needed at most", need),
        )
    )
    if not over:
        when, retry = "It may be enough once the requests under way have ended.", SOON
    elif found.until_ms is None:
        when, retry = "It does not begin anew.", LONG
    else:
        begins = datetime.fromtimestamp(found.until_ms / 1000, UTC)
        when = f"It begins anew at {begins:%Y-%m-%dT%H:%M:%SZ}."
        retry = max(SOON, (found.until_ms - now_ms) / 1000)
    return BudgetExhausted(
        f"You exceeded your current quota: too little is left of the {WHOLE[budget.period]}"
        f" budget {budget.id} of this {budget.owner} ({UNITS[found.what]}): {sums}. {when}",
        retry_after=retry,
    )


def amount(what: str, value: int) -> str:
    """Tokens, or money with as many decimals as it takes."""
    if what == "tokens":
        return str(value)
    return f"{(Decimal(value) / MICROS).normalize():f}"
