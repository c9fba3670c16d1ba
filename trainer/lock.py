"""One trainer in one job's folder at a time, on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path

FILE = "lock"
AGAIN = 0.1


@contextlib.asynccontextmanager
async def locked(folder: Path, within: float) -> AsyncIterator[int]:
    """Holds the folder; gives the descriptor that holds it, which a child is to keep open, too: so
    it is free when neither is left. Raises TimeoutError.
    """
    descriptor = os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        async with asyncio.timeout(within):
            while not attempt(descriptor):  # noqa: ASYNC110
                await asyncio.sleep(AGAIN)
        yield descriptor
    finally:
        os.close(descriptor)


def attempt(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
