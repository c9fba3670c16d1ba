"""A device as the ledger sees it: so many bytes, and who holds them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Literal, Protocol

import msgspec

FIRST_LOOK = 0.02
LONGEST_LOOK = 0.25
"""Seconds between two looks at a device that has not given its bytes back yet."""

Kind = Literal["cuda", "cpu"]
Basis = Literal["process", "remainder", "pss", "rss", "unknown"]
"""How bytes were found.

process    NVML's own figure for each process
remainder  what the device has in use less everything that is known: an inference, because NVML
           does not say which process holds what (see cuda.py)
pss        proportional set size: a page shared by n processes counts 1/n in each
rss        resident set size, where PSS may not be read: shared pages count in full, so too much
unknown    not to be told; bytes is None
"""
Trouble = Literal[
    "no_library", "no_driver", "driver_mismatch", "no_permission", "lost", "mig", "not_supported",
    "failed",
]  # fmt: skip
"""Why a device cannot be used: `lost` one fell off its bus or needs a reset, `failed` is any other
answer of its driver."""


class DeviceFault(Exception):
    """The device cannot be asked or used. The message is a sentence with the driver's own words.

    `mend` is what a person can do about it.
    """

    def __init__(self, trouble: Trouble, message: str, mend: str) -> None:
        super().__init__(message)
        self.trouble: Trouble = trouble
        self.mend = mend


class Measured(msgspec.Struct, frozen=True):
    """Bytes of one holder. None only with basis `unknown`."""

    bytes: int | None
    basis: Basis
    cached: int = 0
    """Of these, pages of files: the device counts them as free, too."""


class Lingering(msgspec.Struct, frozen=True):
    """What dead processes still hold; 0 bytes when the device has everything back.

    `pids` are those that the device still shows, or that still live. Basis `unknown`: the
    processes are gone and the device cannot tell whether their bytes are.
    """

    bytes: int
    pids: tuple[int, ...]
    basis: Basis


class Device(Protocol):
    """Every method may raise DeviceFault. None blocks the loop."""

    name: str
    """Unique on this machine: cpu, cuda:0, …"""
    kind: Kind
    total: int
    """Bytes that engines can have when nobody else has any."""

    async def used(self) -> int:
        """Bytes in use, by anyone."""

    async def free(self) -> int:
        """Bytes that an engine could take now."""

    async def measure(
        self,
        holders: Mapping[str, Collection[int]],
        known: Mapping[str, int] | None = None,
        foreign: int = 0,
    ) -> dict[str, Measured]:
        """The bytes of each holder, given the pids of its processes.

        `known` are the caller's last figures; a device that cannot tell its holders apart
        subtracts those of the others to find the one that is missing there, and what `foreign`
        programs were seen to use.
        """

    async def released(
        self, pids: Collection[int], timeout: float, below: int | None = None
    ) -> Lingering:
        """Wait until the bytes of these dead processes are back, `timeout` seconds at most.

        `below` is what `used` is expected to fall to: it decides where the device does not show
        processes, and is looked at nowhere else.
        """


async def patience(look: Callable[[], Lingering], timeout: float) -> Lingering:
    """Look, in a thread, until nothing lingers or the time is up; returns the last look."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + timeout
    pause = FIRST_LOOK
    while True:
        seen = await asyncio.to_thread(look)
        left = deadline - clock()
        if (seen.bytes == 0 and not seen.pids) or left <= 0:
            return seen
        await asyncio.sleep(min(pause, left))
        pause = min(LONGEST_LOOK, pause * 2)
