"""How long lines are, and where in them jobs stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from shared.queue import BOUNDARY_MS, HORIZON_MS
from shared.script import LinkLike, Script

_waiting = Script("waiting")
_standing = Script("standing")


class Line(NamedTuple):
    """What waits on one queue; `overdue_ms` is below 0 while the first one's slack lasts."""

    waiting: int
    overdue_ms: int


async def waiting(link: LinkLike, queues: Sequence[str]) -> dict[str, Line]:
    """How long the lines of some queues are."""
    flat = await _waiting.run(link, queues, (HORIZON_MS, BOUNDARY_MS))
    pairs = zip(*[iter(flat)] * 2, strict=True)
    return {name: Line(*pair) for name, pair in zip(queues, pairs, strict=True)}


async def standing(link: LinkLike, queue: str, ids: Sequence[str]) -> list[int | None]:
    """How many jobs wait before each of these; None for one that does not wait."""
    found = await _standing.run(link, (queue,), (BOUNDARY_MS, *ids))
    return [None if ahead < 0 else ahead for ahead in found]
