"""Whose a request is, what it may do, and what it may use up. Nothing is counted here.

Money is integer micro-units: 1 000 000 of them are one unit of the hub's currency.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, get_args

import msgspec

Scope = Literal["inference", "training", "files", "admin", "admin.read"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
Period = Literal["day", "week", "month", "total"]
Owner = Literal["key", "project"]

LARGEST = 2**53 - 1
"""Whole numbers up to here are the same in Lua, in JavaScript and in JSON."""
Some = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]
Amount = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Rate = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000_000)]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """None: no limit. Tokens are those of prompt and answer."""

    requests_per_minute: Some | None = None
    tokens_per_minute: Some | None = None
    concurrent: Some | None = None


class Budget(msgspec.Struct, frozen=True):
    """What `owner_id` may use up in one period of UTC days; weeks begin on Monday.

    At least one of `tokens` and `micros` is set.
    """

    id: str
    owner: Owner
    owner_id: str
    period: Period
    tokens: Amount | None = None
    micros: Amount | None = None


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Micro-units per million tokens, `gpu_second` per second of a GPU. `cached` is what a prompt
    token costs that the engine found in its cache."""

    input: Rate = 0
    cached: Rate = 0
    output: Rate = 0
    gpu_second: Rate = 0


class SemanticCache(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`model` embeds the questions; None: the hub's first embedding model. `threshold`: cosine from
    which on two are looked at. Of the hits a share of `shadow` is checked, and above a share of
    `bound` of wrong ones the cache turns itself off."""

    enabled: bool = False
    model: str | None = None
    threshold: Share = 0.8
    bound: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.01
    shadow: Share = 0.05


class CacheSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which answers a project keeps. `response`: those of deterministic requests."""

    response: bool = True
    semantic: SemanticCache = SemanticCache()


class Account(msgspec.Struct, frozen=True):
    """A key with its project. `models` empty: all of them. `expires_at` None: never."""

    key: str
    project: str
    organisation: str
    name: str
    scopes: tuple[Scope, ...]
    models: tuple[str, ...] = ()
    key_limits: Limits = Limits()
    project_limits: Limits = Limits()
    budgets: tuple[Budget, ...] = ()
    cache: CacheSettings = CacheSettings()
    expires_at: datetime | None = None

    def may(self, scope: Scope) -> bool:
        """Whoever administers may also look."""
        return scope in self.scopes or (scope == "admin.read" and "admin" in self.scopes)
