"""One process in a session of its own, with its log, from the start to the last of its group."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from signal import Signals

from deploy import linux
from deploy.logfile import LogFile


class Child:
    """Start it from the main thread: the parent-death signal follows the thread."""

    def __init__(
        self,
        argv: Sequence[str],
        log: LogFile,
        *,
        env: Mapping[str, str],
        orphaned: Signals,
        user: str | None = None,
        piped: bool = False,
    ) -> None:
        """`env` is added to ours. `piped`: standard output can be read from `output`."""
        self.log = log
        descriptor = log.open()
        try:
            self._process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else descriptor,
                stderr=descriptor,
                env={**os.environ, **env},
                start_new_session=True,
                user=user,
                group=primary_group(user),
                extra_groups=None if user is None else [],
                preexec_fn=linux.follow_parent(orphaned),
            )
        finally:
            os.close(descriptor)
        self.pid = self._process.pid
        self.output = self._process.stdout

    def exit(self) -> int | None:
        """The exit status, minus the signal's number if one ended it; None while it runs.

        What the dead child left in its process group is killed before its pid is given back.
        """
        if self._process.returncode is None:
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return None
            self.kill()
            self._process.wait()
        return self._process.returncode

    def signal(self, number: Signals) -> None:
        """To the process alone."""
        if self._process.returncode is None:
            self._process.send_signal(number)

    def signal_group(self, number: Signals) -> None:
        """To the process and all it started in its session."""
        if self._process.returncode is None:
            os.killpg(self.pid, number)

    def kill(self) -> None:
        self.signal_group(Signals.SIGKILL)


def primary_group(user: str | None) -> int | None:
    if user is None:
        return None
    import pwd

    return pwd.getpwnam(user).pw_gid


def describe(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exited with status {status}"
    return f"was ended by {Signals(-status).name}"
