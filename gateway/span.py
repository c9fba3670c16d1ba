"""The part of a body that a Range header asks for. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from shared.errors import RangeNotSatisfiable

ONE = re.compile(rb"^bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*$", re.IGNORECASE)


class Span(NamedTuple):
    """Bytes [start, end)."""

    start: int
    end: int


def parse(header: bytes | None, size: int) -> Span | None:
    """What of `size` bytes is asked for; None: all of it, also where the header is not understood
    or asks for several parts, as RFC 9110 has it.

    Raises RangeNotSatisfiable when there is nothing of what is asked for.
    """
    found = ONE.match(header or b"")
    if found is None or found[1] == found[2] == b"":
        return None
    if found[1] == b"":
        start, end = max(0, size - int(found[2])), size
    else:
        start = int(found[1])
        end = size if found[2] == b"" else min(size, int(found[2]) + 1)
        if found[2] != b"" and int(found[2]) < start:
            return None
    if start >= end:
        raise RangeNotSatisfiable(f"The file has {size} bytes, none of which is asked for.")
    return Span(start, end)
