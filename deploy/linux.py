"""What the supervisor asks of the Linux kernel beyond the standard library."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from pathlib import Path

from shared.lifeline import die_with_parent

PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def follow_parent(number: signal.Signals) -> Callable[[], None]:
    """A preexec function: the child gets this signal when the thread that started it dies.

    It must run behind a change of user, which clears it. The parent may already be gone.
    """
    parent = os.getpid()

    def preexec() -> None:
        die_with_parent(parent, number)

    return preexec


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent dies."""
    if _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def children() -> list[int]:
    """Pids of the main thread's children, the dead that nobody waited for included."""
    pid = os.getpid()
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
