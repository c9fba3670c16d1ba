"""The process around one vLLM: `python -m worker.engines.vllm_child OPTIONS`.

OPTIONS is the JSON of `Options`. vLLM is several processes, and those behind its API server live
on when that is killed, with all their memory. This one leads their group and adopts what they
leave behind: when the API server or the worker ends, however it does, all of them end.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from shared.lifeline import die_with_parent
from worker.engines.group import members

PR_SET_CHILD_SUBREAPER = 36
CLEANING = 3.0
"""Seconds that Python's resource tracker has to remove shared memory of the dead."""
GIVING_UP = 10.0
PAUSE = 0.01


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the child is told. `parent` is the pid that must live on for it to live."""

    argv: list[str]
    folder: str
    """Where vLLM runs; it holds nothing that Python could import."""
    parent: int


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def others() -> list[int]:
    return [pid for pid in members(os.getpgrp()) if pid != os.getpid()]


def cleans(pid: int) -> bool:
    """Whether it is a resource tracker, which removes shared memory once its users are gone."""
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def end_rest() -> None:
    """Kill what is left of the group and wait until it is gone."""
    begun = time.monotonic()
    while (spent := time.monotonic() - begun) < GIVING_UP:
        kill([pid for pid in others() if spent > CLEANING or not cleans(pid)])
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(PAUSE)
        except ChildProcessError:
            return


def main(argv: list[str]) -> int:
    options = msgspec.json.decode(argv[1], type=Options)
    # The polite signal goes to the whole group; the server's end is then what is waited for.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGHUP, lambda *_: kill(others()))
    adopt_orphans()
    die_with_parent(options.parent, signal.SIGHUP)
    with subprocess.Popen(options.argv, cwd=options.folder) as server:
        status = server.wait()
    end_rest()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv))
