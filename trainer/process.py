"""The child of one job: a session of its own, reports on standard output, orders on its input."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import msgspec

from shared import log
from trainer.launch import ENVIRONMENT
from trainer.plan import Order
from trainer.report import Report, decode

LONGEST_LINE = 1 << 20
TAIL = 50
"""Lines of standard error that are kept."""
GRACE = 3.0
"""Seconds between the polite signal and the certain one."""

logger = log.get("child")


class Child:
    """Make it with `spawn`. It ends with this process, however that ends."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._tail: deque[str] = deque(maxlen=TAIL)
        self._errors = asyncio.create_task(self._read_errors())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @property
    def tail(self) -> str:
        """What it said last on standard error."""
        return "\n".join(self._tail)

    async def reports(self) -> AsyncIterator[Report]:
        """Until it closes its standard output; it waits while nobody reads."""
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:
                logger.error("a line was too long to be a report", pid=self.pid)
                continue
            if not line:
                return
            try:
                yield decode(line)
            except msgspec.MsgspecError as error:
                logger.error("not a report", pid=self.pid, error=str(error))

    def order(self, order: Order) -> None:
        """Obeyed at the end of the running step; a child that is gone hears nothing."""
        stdin = self._process.stdin
        if stdin is not None and not stdin.is_closing() and self.alive:
            stdin.write(f"{order}\n".encode())

    async def exit(self) -> int:
        """Its exit status, minus the signal's number if one ended it."""
        status = await self._process.wait()
        await self._errors
        return status

    async def kill(self, grace: float = GRACE) -> None:
        """Ends the whole session, politely first."""
        if self.alive:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._process.wait()
        self._signal(signal.SIGKILL)
        await self._process.wait()

    def kill_after(self, seconds: float) -> None:
        """If it is still there then."""

        def kill() -> None:
            if self.alive:
                logger.error("does not obey", pid=self.pid)
                self._killing = asyncio.ensure_future(self.kill())

        asyncio.get_running_loop().call_later(seconds, kill)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        while True:
            try:
                line = await self._process.stderr.readline()
            except ValueError:
                continue
            if not line:
                return
            if text := line.decode("utf-8", "replace").rstrip():
                self._tail.append(text[:2000])


async def spawn(
    argv: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    held: Sequence[int] = (),
) -> Child:
    """Starts it behind everything else on the machine. `held` are descriptors that it keeps open
    as long as it lives. Raises OSError."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        env=inherited() | ENVIRONMENT | dict(environment),
        limit=LONGEST_LINE,
        start_new_session=True,
        pass_fds=tuple(held),
    )
    give_way(process.pid)
    return Child(process)


async def answer(argv: Sequence[str], question: bytes, within: float) -> bytes:
    """What a child says to a question; raises OSError with its last words, or TimeoutError."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=inherited() | ENVIRONMENT | {"CUDA_VISIBLE_DEVICES": ""},
        start_new_session=True,
    )
    give_way(process.pid)
    try:
        async with asyncio.timeout(within):
            said, errors = await process.communicate(question)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if process.returncode:
        last = errors.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise OSError(" ".join(last) or f"it ended with status {process.returncode}")
    return said


def give_way(pid: int) -> None:
    """Gives it the time of the CPUs that nobody else wants; its threads inherit that."""
    try:
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    except ProcessLookupError:
        return
    except OSError as error:
        logger.warning("training competes for the CPU", error=str(error))


def inherited() -> dict[str, str]:
    """Our environment without the hub's own settings, which hold secrets."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AIHUB_")}
