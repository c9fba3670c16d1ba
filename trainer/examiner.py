"""A child that is asked about bases and files before a job begins, and trains nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

import msgspec

from trainer.launch import ENVIRONMENT
from trainer.process import LONGEST_LINE, give_way, inherited

T = TypeVar("T")


class Examiner:
    """A child that answers one question after the other; see `examining`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, question: msgspec.Struct, kind: type[T], within: float) -> T:
        """Raises OSError with its last words, TimeoutError, and msgspec.MsgspecError."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        async with asyncio.timeout(within):
            process.stdin.write(msgspec.json.encode(question) + b"\n")
            line = await process.stdout.readline()
            if not line:
                raise OSError(await self._last_words())
        return msgspec.json.decode(line, type=kind)

    async def _last_words(self) -> str:
        process = self._process
        assert process.stderr is not None
        lines = (await process.stderr.read()).decode("utf-8", "replace").strip().splitlines()
        status = await process.wait()
        return lines[-1] if lines else f"it ended with status {status}"


@contextlib.asynccontextmanager
async def examining(argv: Sequence[str]) -> AsyncIterator[Examiner]:
    """It sees no card and ends with the context. Raises OSError."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=inherited() | ENVIRONMENT | {"CUDA_VISIBLE_DEVICES": ""},
        limit=LONGEST_LINE,
        start_new_session=True,
    )
    give_way(process.pid)
    try:
        yield Examiner(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
