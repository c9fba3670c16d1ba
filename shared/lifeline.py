"""Ties this process to its parent: when that dies, however it does, the kernel ends this one."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Asks for signal `number` when process `parent` ends; raises OSError.

    The signal follows the thread that forked us, so a parent must start children from a thread
    that lives as long as it does. A parent that ended before the call is noticed at once.
    """
    if _libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os.kill(os.getpid(), number)
