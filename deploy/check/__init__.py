"""The doctor's checks: each finds one thing, and says how to mend it when it is not right."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class State(Enum):
    OK = "ok"
    WARN = "warn"
    """The hub runs, with less."""
    FAIL = "fail"
    """The hub does not run with these settings."""


class Finding(NamedTuple):
    state: State
    what: str
    found: str
    mend: str = ""
    """What to do; empty when nothing needs doing."""


def ok(what: str, found: str) -> Finding:
    return Finding(State.OK, what, found)


def warn(what: str, found: str, mend: str) -> Finding:
    return Finding(State.WARN, what, found, mend)


def fail(what: str, found: str, mend: str) -> Finding:
    return Finding(State.FAIL, what, found, mend)
