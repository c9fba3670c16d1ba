"""Prefixed identifiers that sort by time: 48 bits of milliseconds, 80 of randomness, in hex."""

from __future__ import annotations

import os
import time

DIGITS = 32


def new(prefix: str) -> str:
    """`prefix` plus 32 hex digits, e.g. `chatcmpl-0198f3…`."""
    milliseconds = time.time_ns() // 1_000_000
    return f"{prefix}{milliseconds:012x}{os.urandom(10).hex()}"


def again(prefix: str, id_: str) -> str:
    """The same identifier with another prefix."""
    return prefix + id_[-DIGITS:]


def wall_ms(id_: str) -> int:
    """When it was made, in epoch milliseconds."""
    return int(id_[-DIGITS : 12 - DIGITS], 16)


def process(prefix: str) -> str:
    """A short name for one run of one process, e.g. `gw-3f9a01c2`."""
    return f"{prefix}-{os.urandom(4).hex()}"
