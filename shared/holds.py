"""What requests may use up, as Redis counts it: each operation one Lua call.

What is counted is explained in shared/lua/tally.lua.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from struct import Struct
from typing import Any, Literal, NamedTuple

from msgspec.structs import replace

from shared import keys, usage_stream
from shared.period import span
from shared.script import LinkLike, Script
from shared.wire.account import Account, Budget, Limits, Owner
from shared.wire.hold import Draw, Hold, Tally, encode, write_tallies

MOST_SWEPT = 256
SWEEP_SECONDS = 2.0
"""Between two sweeps of one process."""
GRACE_MS = 5_000
"""Beyond its deadline that a request may take to end."""
KEPT_MS = 7_200_000
"""A counter outlives its period by that; what ends later is in the ledger alone."""
LIFE_MS = 40 * 86_400_000
"""…and one without an end its last use by that; it is found out again when it is needed."""

NOW, COUNTER = Struct("<qqIIIIqq"), Struct("<8q")
"""As shared/lua/tally.lua packs them."""
TAG_BYTES = 6
"""So long that a double holds it and two counters of one owner do not have the same."""
SECOND_MS, MINUTE_MS, HOUR_MS = 1_000, 60_000, 3_600_000
UNLIMITED = Limits()
MOST_KNOWN = 1_024

_admit = Script("clock", "tally", "limits", "admit", grows=True)
_open = Script("clock", "tally", "open_counter", grows=True)
_fill = Script("clock", "tally", "fill_counter")
_sweep = Script("clock", "tally", "hold", "event", "sweep")


class Standing(NamedTuple):
    """How the limits of a key or project stand: what is used of each, ms until none of it is.

    The requests of the last second may be counted with those of the minute before.
    """

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


class Owned(NamedTuple):
    """What limits the requests of a key or project."""

    owner: Owner
    id: str
    limits: Limits
    budgets: tuple[Budget, ...]


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


class Known:
    """What limits the requests of an account, and the tallies of those that came in `hour` of the
    epoch; all periods are of whole hours."""

    __slots__ = ("account", "by_minute", "hour", "owned", "tallies")

    def __init__(self, account: Account) -> None:
        self.account = account
        self.owned = _find_owners(account)
        self.hour = -1
        self.tallies = ""
        self.by_minute = write_tallies(tally(_of_minute(one), 0) for one in self.owned)


def owners(account: Account) -> list[Owned]:
    """Those of a request that have limits or budgets."""
    return _know(account).owned


_known: dict[str, Known] = {}
"""An account is the same object for all requests of a key until it is looked up again."""


def _know(account: Account) -> Known:
    known = _known.get(account.key)
    if known is None or known.account is not account:
        if len(_known) >= MOST_KNOWN:
            _known.clear()
        known = _known[account.key] = Known(account)
    return known


def _find_owners(account: Account) -> list[Owned]:
    both: tuple[tuple[Owner, str, Limits], ...] = (
        ("key", account.key, account.key_limits),
        ("project", account.project, account.project_limits),
    )
    found = [
        Owned(
            owner, id_, limits, tuple(budget for budget in account.budgets if budget.owner == owner)
        )
        for owner, id_, limits in both
    ]
    return [one for one in found if one.budgets or one.limits != UNLIMITED]


def _of_minute(owned: Owned) -> Owned:
    """Without what is not counted by the minute."""
    return owned._replace(limits=replace(owned.limits, concurrent=None), budgets=())


def of_account(
    account: Account, ts_ms: int, deadline_ms: int, tokens: int, micros: int
) -> Hold | None:
    """What a request holds that came at `ts_ms` and may use so much; None: nothing limits it."""
    known = _know(account)
    if not known.owned:
        return None
    hour = ts_ms // HOUR_MS
    if known.hour != hour:
        known.tallies = write_tallies(tally(one, hour) for one in known.owned)
        known.hour = hour
    return Hold(ts_ms, tokens, micros, deadline_ms + GRACE_MS, known.tallies)


def tally(owned: Owned, hour: int) -> Tally:
    """Where a request that came in that hour of the epoch is counted."""
    limits = owned.limits
    return Tally(
        keys.tally(owned.owner, owned.id),
        limits.requests_per_minute or 0,
        limits.tokens_per_minute or 0,
        limits.concurrent or 0,
        tuple(draw(budget, hour * HOUR_MS) for budget in owned.budgets),
    )


def draw(budget: Budget, ts_ms: int) -> Draw:
    """How a budget is counted of a request that came at `ts_ms`."""
    period = span(budget.period, ts_ms)
    return Draw(
        int.from_bytes(sha256(f"{budget.id}:{period.name}".encode()).digest()[:TAG_BYTES]),
        -1 if budget.tokens is None else budget.tokens,
        -1 if budget.micros is None else budget.micros,
        ts_ms + LIFE_MS if period.until_ms is None else period.until_ms + KEPT_MS,
    )


def standings(account: Account, given: Sequence[int]) -> list[Standing]:
    """What is told of an account's tallies when one is in the way of a request."""
    rows = zip(*[iter(given)] * 4, strict=True)
    return [
        Standing(one.owner, one.limits, *row)
        for one, row in zip(owners(account), rows, strict=True)
    ]


def standings_with(account: Account, given: Sequence[int]) -> list[Standing]:
    """The same of a request that was counted just now."""
    return [
        Standing(one.owner, one.limits, requests, MINUTE_MS, tokens, MINUTE_MS + SECOND_MS)
        for one, requests, tokens in zip(owners(account), given[::2], given[1::2], strict=True)
    ]


def obstacle(standing: Sequence[Standing], given: Sequence[int]) -> Obstacle:
    number, what, used, frees = given
    names: tuple[Literal["requests", "tokens", "concurrent"], ...]
    names = ("requests", "tokens", "concurrent")
    return Obstacle(standing[number - 1], names[what - 1], used, None if frees < 0 else frees)


def shortage(account: Account, ts_ms: int, given: Sequence[Any]) -> Shortage | None:
    """None: what was spent of some budget is not known."""
    if given[0] == b"unknown":
        return None
    _, number, what, spent, held = given
    budget = [budget for one in owners(account) for budget in one.budgets][number - 1]
    names: tuple[Literal["tokens", "micros"], ...] = ("tokens", "micros")
    until = span(budget.period, ts_ms).until_ms
    return Shortage(budget, names[what - 1], spent, held, until)


async def admit(link: LinkLike, account: Account) -> tuple[list[Standing], Obstacle | None]:
    """Counts a request that is no job; how its tallies stand, and what is in the way if anything.

    It runs beside others and takes nothing of a budget.
    """
    hold = encode(Hold(0, 0, 0, 0, _know(account).by_minute))
    given = await _admit.run(link, (), (hold,))
    if isinstance(given[0], int):
        return standings_with(account, given), None
    found = standings(account, given[0])
    return found, obstacle(found, given[1])


async def open_counter(link: LinkLike, budget: Budget, ts_ms: int) -> Opened:
    """Begins to find out what was spent of a budget in the period of `ts_ms`."""
    about = draw(budget, ts_ms)
    values = (about.tag, about.expires_ms)
    epoch, generation, known = await _open.run(link, (of_budget(budget),), values)
    return Opened(epoch, generation, bool(known))


async def fill_counter(
    link: LinkLike,
    budget: Budget,
    ts_ms: int,
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
    tag = draw(budget, ts_ms).tag
    values = (tag, opened.epoch, opened.generation, tokens, micros, again_ms, int(anyway))
    return bool(await _fill.run(link, (of_budget(budget),), values))


async def read_counter(link: LinkLike, budget: Budget, ts_ms: int) -> Counted | None:
    """None: it is not known what was spent."""
    found = counters(await link.call("GET", of_budget(budget)))
    return found.get(draw(budget, ts_ms).tag)


def counters(kept: bytes | None) -> dict[int, Counted]:
    """Those of a tally of which it is known what was spent, by their tags."""
    found = {}
    for counter in COUNTER.iter_unpack((kept or b"")[NOW.size :]):
        tag, _, tokens, micros, tokens_held, micros_held, _, _ = counter
        if tokens >= 0:
            found[tag] = Counted(tokens, micros, tokens_held, micros_held)
    return found


def running(kept: bytes | None) -> int:
    """How many requests of a tally wait or run, where these are limited."""
    return 0 if kept is None else int(NOW.unpack_from(kept)[2])


def of_budget(budget: Budget) -> str:
    """The tally that counts it."""
    return keys.tally(budget.owner, budget.owner_id)


async def sweep(link: LinkLike) -> int:
    """Releases the holds of jobs that are gone; returns how many."""
    released: int = await _sweep.run(
        link,
        (keys.HOLDS, keys.USAGE, keys.USAGE_LOST),
        (keys.HOLD, keys.JOB, keys.WORDS, MOST_SWEPT, usage_stream.MOST_EVENTS),
    )
    return released
