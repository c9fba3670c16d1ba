"""One process the supervisor runs."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Service(NamedTuple):
    """`env` is added to the supervisor's own. `missing` says what readiness still lacks."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    missing: Callable[[], str | None]
    user: str | None = None
    """Account to drop to; None keeps the supervisor's."""
    stop: signal.Signals = signal.SIGTERM
    orphaned: signal.Signals | None = None
    """What it gets when the supervisor dies; None: the same as `stop`."""
    hurry: float | None = None
    """Seconds after `stop` when its whole group gets that signal again: it ends a drain."""
    within: float = 60.0
    """Seconds from its start until it must be ready."""
