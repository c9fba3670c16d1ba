"""How the semantic cache of a project stands."""

from __future__ import annotations

from typing import Literal

import msgspec


class Trial(msgspec.Struct, frozen=True):
    """What checking hits found since `since`, in epoch seconds. Once turned off, `off_reason`
    says why."""

    hits: int = 0
    checked: int = 0
    wrong: int = 0
    since: int | None = None
    off_since: int | None = None
    off_reason: str | None = None


class SemanticStatus(msgspec.Struct, frozen=True):
    """`state`: `off` by the settings, `turned_off` by a check, `unproven` until `required` hits
    were checked, then `proven`. `upper_bound` is the share of wrong hits that the checks rule out
    with 95 % confidence to be exceeded."""

    project: str
    state: Literal["off", "turned_off", "unproven", "proven"]
    bound: float
    upper_bound: float
    required: int
    trial: Trial
    answers: int
    bytes: int
    object: str = "semantic_cache"
