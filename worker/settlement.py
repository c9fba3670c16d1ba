"""The end of a job: off the queue with its line for the ledger, or back for another worker."""

from __future__ import annotations

import hiredis

from shared import log, queue
from shared.resp import Link, Lost
from worker.request import Request

TRIES = 5
BACK_WITHIN = 30.0
"""Seconds Redis may be away in between."""

logger = log.get("settlement")


async def settle(link: Link, worker: str, request: Request) -> None:
    """By why it stopped. Again, where Redis went away: what is written twice counts once."""
    used = request.used()
    for _ in range(TRIES):
        try:
            await link.wait_open(BACK_WITHIN)
            await end(link, worker, request, used)
        except (Lost, hiredis.HiredisError) as error:
            logger.warning("cannot finish", job=request.claimed.id, error=str(error))
        else:
            return
    # The lease runs out and another attempt finds nobody waiting for it.
    if used is not None:
        queue.lament(used)


async def end(link: Link, worker: str, request: Request, used: bytes | None) -> None:
    claimed = request.claimed
    if request.reason == "released" and not request.over:
        await queue.release(link, worker, claimed.queue, claimed.id)
        if request.passed_to is not None:
            queue.call(link, request.passed_to, claimed.queue, 1)
        return
    ours = request.reason != "lost" and await queue.finish(
        link, worker, claimed.queue, claimed.id, used
    )
    if not ours and request.over and used is not None:
        # Another has the job, and nobody waits for it: the answer was given.
        await queue.record(link, [used])
