"""For a fake CUDA engine, run where the fake NVML is seen: `hold` makes this process own memory.

The bytes stand in `FAKE_NVML.d/<device>/<pid>` and are gone when the process is, `linger` seconds
after its death was first seen. `python -m tests.fakes.nvml.vram BYTES [LINGER] [DEVICE]` holds
them, says `holding`, and ends with its standard input; exit status 1 when they do not fit. A line
`BYTES RAM` of its standard input makes it hold other bytes, and so many of its own memory.
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

import pynvml


class OutOfMemory(Exception):
    """What CUDA says when a card has no room."""


def hold(held: int, *, linger: float = 0.0, device: int = 0) -> None:
    """This process holds `held` bytes from now on, in place of what it held; raises OutOfMemory.

    No two processes get the same bytes. Dies with FileNotFoundError where there is no such card.
    """
    folder = Path(f"{os.environ['FAKE_NVML']}.d") / str(device)
    own = folder / str(os.getpid())
    turn = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(turn, fcntl.LOCK_EX)
        before = int(own.read_text().split()[0]) if own.exists() else 0
        if held > free(device) + before:
            raise OutOfMemory(f"{held} bytes do not fit device {device}")
        written = folder / f".{os.getpid()}"
        written.write_text(f"{held} {int(linger * 1000)}\n")
        written.replace(own)
    finally:
        os.close(turn)


def free(device: int) -> int:
    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(device)
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2).free)
    finally:
        pynvml.nvmlShutdown()


def total(device: int) -> int:
    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(device)
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2).total)
    finally:
        pynvml.nvmlShutdown()


def main(arguments: list[str]) -> int:
    held, linger, device = (*arguments, *("0", "0", "0")[len(arguments) :])
    try:
        hold(int(held), linger=float(linger), device=int(device))
    except OutOfMemory as error:
        print(error, file=sys.stderr)
        return 1
    print("holding", flush=True)
    for line in sys.stdin:
        asked, ram = map(int, line.split())
        hold(asked, linger=float(linger), device=int(device))
        kept = bytearray(b"1") * ram
        print(f"holding, {len(kept)} of RAM", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
