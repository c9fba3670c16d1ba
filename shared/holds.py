"""What requests may use up, as Redis counts it: each operation one Lua call.

The counters are explained in shared/lua/hold.lua.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from shared import keys, usage_stream
from shared.script import LinkLike, Script
from shared.wire import hold
from shared.wire.account import Account, Budget, Limits, Owner, Period
from shared.wire.hold import Draw, Hold, Limited

MOST_SWEPT = 256
SWEEP_SECONDS = 2.0
"""Between two sweeps of one process."""
GRACE_MS = 5_000
"""Beyond its deadline that a request may take to end."""
KEPT_MS = 2 * 86_400_000
"""A counter outlives its period by that, or by what a request may take."""
LIFE_MS = 40 * 86_400_000
"""…and one without an end its last use by that; it is found out again when it is needed."""

HOUR_MS = 3_600_000
UNLIMITED = Limits()

_admit = Script("hold", "admit")
_open = Script("hold", "open_counter")
_fill = Script("hold", "fill_counter")
_sweep = Script("hold", "sweep")


class Span(NamedTuple):
    """One period of a budget: named by its first day; epoch ms; None: it never ends."""

    name: str
    from_ms: int
    until_ms: int | None


class Standing(NamedTuple):
    """How the limits of a key or project stand: what is used of each, ms until none of it is."""

    owner: Owner
    limits: Limits
    requests: int
    requests_ms: int
    tokens: int
    tokens_ms: int


class Obstacle(NamedTuple):
    """The limit that refuses a request; `frees_ms` None: it asks for more than there ever is."""

    standing: Standing
    what: Literal["requests", "tokens", "concurrent"]
    used: int
    frees_ms: int | None


class Shortage(NamedTuple):
    """The budget that refuses a request, in the period until `until_ms`."""

    budget: Budget
    what: Literal["tokens", "micros"]
    spent: int
    held: int
    until_ms: int | None


class Opened(NamedTuple):
    """A counter whose content is to be found out, or `known`."""

    epoch: bytes
    generation: bytes
    known: bool


class Counted(NamedTuple):
    """Of a budget in one period. `spent` may be unknown."""

    tokens: int
    micros: int
    tokens_held: int
    micros_held: int


def limited(account: Account) -> list[tuple[Owner, str, Limits]]:
    """Those owners of a request's limits that have any."""
    found: list[tuple[Owner, str, Limits]] = []
    if account.key_limits != UNLIMITED:
        found.append(("key", account.key, account.key_limits))
    if account.project_limits != UNLIMITED:
        found.append(("project", account.project, account.project_limits))
    return found


def of_account(
    account: Account, ts_ms: int, deadline_ms: int, tokens: int, micros: int
) -> Hold | None:
    """What a request holds that came at `ts_ms` and may use so much; None: nothing limits it."""
    limits = gauges(account)
    if not limits and not account.budgets:
        return None
    return Hold(
        ts_ms,
        tokens,
        micros,
        deadline_ms + GRACE_MS,
        limits,
        tuple(draw(budget, ts_ms) for budget in account.budgets),
    )


def gauges(account: Account, *, concurrent: bool = True) -> tuple[Limited, ...]:
    """Where an account's limits are counted; without `concurrent` only those of a minute."""
    return tuple(gauge(*one, concurrent) for one in limited(account))


@lru_cache(1024)
def gauge(owner: Owner, id_: str, limits: Limits, concurrent: bool) -> Limited:
    return Limited(
        keys.log(owner, id_),
        limits.requests_per_minute or 0,
        keys.buckets(owner, id_),
        limits.tokens_per_minute or 0,
        keys.running(owner, id_),
        (limits.concurrent or 0) if concurrent else 0,
    )


def draw(budget: Budget, ts_ms: int) -> Draw:
    """How a budget is counted of a request that came at `ts_ms`."""
    return draw_in_hour(budget, ts_ms // HOUR_MS)


@lru_cache(1024)
def draw_in_hour(budget: Budget, hour: int) -> Draw:
    """`hour` counts from the epoch; all periods are of whole hours."""
    period = span(budget.period, hour * HOUR_MS)
    endless = period.until_ms is None
    return Draw(
        keys.counter(budget.id, period.name),
        -1 if budget.tokens is None else budget.tokens,
        -1 if budget.micros is None else budget.micros,
        hour * HOUR_MS + LIFE_MS if period.until_ms is None else period.until_ms + KEPT_MS,
        endless,
    )


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


def standings(account: Account, given: Sequence[Sequence[int]]) -> list[Standing]:
    """What the Lua calls tell of an account's limits."""
    return [
        Standing(owner, limits, *stand)
        for (owner, _, limits), stand in zip(limited(account), given, strict=True)
    ]


def obstacle(account: Account, standing: Sequence[Standing], given: Sequence[int]) -> Obstacle:
    number, what, used, frees = given
    names: tuple[Literal["requests", "tokens", "concurrent"], ...]
    names = ("requests", "tokens", "concurrent")
    return Obstacle(standing[number - 1], names[what - 1], used, None if frees < 0 else frees)


def shortage(account: Account, ts_ms: int, given: Sequence[Any]) -> Shortage | None:
    """None: what was spent of some budget is not known."""
    if given[0] == b"unknown":
        return None
    _, number, what, spent, held = given
    budget = account.budgets[number - 1]
    names: tuple[Literal["tokens", "micros"], ...] = ("tokens", "micros")
    until = span(budget.period, ts_ms).until_ms
    return Shortage(budget, names[what - 1], spent, held, until)


async def admit(link: LinkLike, held: Hold) -> list[Any]:
    """Counts a request that is no job; how its limits stand, and what is in the way if anything."""
    answer: list[Any] = await _admit.run(link, (), (hold.encode(held),))
    return answer


async def open_counter(link: LinkLike, draw: Draw) -> Opened:
    epoch, generation, known = await _open.run(link, (draw.counter,), (draw.expires_ms,))
    return Opened(epoch, generation, bool(known))


async def fill_counter(
    link: LinkLike,
    draw: Draw,
    opened: Opened,
    tokens: int,
    micros: int,
    again_ms: int = 0,
    *,
    anyway: bool = False,
) -> bool:
    """Says what was spent; False: something was settled meanwhile, so it may be more.

    Said for the first time, it is to be looked up again in `again_ms`; 0: never. `anyway`: what
    is known is raised to it whatever was settled.
    """
    values = (opened.epoch, opened.generation, tokens, micros, again_ms, int(anyway))
    return bool(await _fill.run(link, (draw.counter,), values))


async def read_counters(link: LinkLike, counters: Sequence[str]) -> list[Counted | None]:
    """None: it is not known what was spent."""
    found = await link.call("MGET", *counters) if counters else ()
    return [None if kept is None else read_counter(kept) for kept in found]


def read_counter(kept: bytes) -> Counted | None:
    """What shared/lua/hold.lua says that it is; None: it is not known what was spent."""
    _, _, tokens, micros, tokens_held, micros_held, _ = hold.decode_counter(kept)
    return None if tokens < 0 else Counted(tokens, micros, tokens_held, micros_held)


async def sweep(link: LinkLike) -> int:
    """Releases the holds of jobs that are gone; returns how many."""
    released: int = await _sweep.run(
        link,
        (keys.HOLDS, keys.USAGE, keys.USAGE_LOST),
        (keys.HOLD, keys.JOB, keys.WORDS, MOST_SWEPT, usage_stream.MOST_EVENTS),
    )
    return released
