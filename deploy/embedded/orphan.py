"""Servers that outlived the supervisor which started them."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

from deploy.embedded.folder import EmbeddedError

PATIENCE = 15.0
"""Seconds an orphan may take to shut down."""


def program(pid: int) -> str:
    """The file name of what a process runs; empty when there is no such process."""
    return Path(arguments(pid)[0]).name


def arguments(pid: int) -> list[str]:
    # The command line is all that root may read of another account's process in a container.
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return [""]
    return os.fsdecode(line).split("\0")


def servers(name: str, config: Path) -> list[int]:
    """Ids of the processes that run program `name` on the configuration file `config`."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        words = arguments(int(entry.name))
        if Path(words[0]).name == name and any(word.endswith(str(config)) for word in words):
            found.append(int(entry.name))
    return found


def end(name: str, config: Path, stop: signal.Signals) -> None:
    """Stop every such process and wait for it; raises EmbeddedError after PATIENCE seconds.

    Call it with the folder's lock held: then no living supervisor owns them.
    """
    deadline = time.monotonic() + PATIENCE
    for pid in servers(name, config):
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if pid not in servers(name, config):
                continue
            signal.pidfd_send_signal(process, stop)
            gone = select.poll()
            gone.register(process, select.POLLIN)
            if not gone.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise EmbeddedError(
                    f"{name} (process {pid}) of an earlier run does not stop. End it by hand."
                )
        except ProcessLookupError:
            continue
        finally:
            os.close(process)
