"""Sizes in bytes, as people write and read them."""

from __future__ import annotations

import re

UNITS = {"": 1, "B": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?\s*$", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of `16GiB`, `24 GB`, `512M` or a plain number; raises ValueError."""
    found = SIZE.match(text)
    if found is None:
        raise ValueError(f"{text!r} is not a size. Write it like 16GiB, 24GB or a number of bytes.")
    number, unit, binary = found.groups()
    if binary and not unit:
        raise ValueError(f"{text!r} is not a size. Write it like 16GiB, 24GB or a number of bytes.")
    scale = UNITS[unit.upper()]
    if binary:
        scale = 1024 ** "KMGT".index(unit.upper()) * 1024
    return int(float(number) * scale)


def spell_size(size: int) -> str:
    """`12.3 GiB`, or `45 MiB` below one."""
    if abs(size) >= 1 << 30:
        return f"{size / (1 << 30):.2f} GiB"
    return f"{size / (1 << 20):.1f} MiB"
