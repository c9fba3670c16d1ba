"""Who keeps the models of a lane that are to be loaded unasked: one living worker for each."""

from __future__ import annotations

from collections.abc import Sequence

from shared import keys
from shared.script import LinkLike, Script

_keep = Script("keep")


async def keep(
    link: LinkLike, worker: str, lane: str, models: Sequence[tuple[str, int]], room: int
) -> tuple[list[str], list[str]]:
    """Makes `worker` the keeper of those models that no living worker of the lane keeps, in order,
    as far as they fit in `room` bytes; each comes with its bytes.

    Returns the names of those it keeps now, and of those that did not fit and are nobody's.
    """
    ours, left = await _keep.run(
        link,
        (keys.keepers(lane), keys.WORKERS),
        (
            worker,
            room,
            keys.WORKER_MS,
            keys.KEEPERS_MS,
            *(part for each in models for part in each),
        ),
    )
    return [name.decode() for name in ours], [name.decode() for name in left]
