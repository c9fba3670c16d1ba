"""The end of a job: off the queue with its line for the ledger, or back for another worker."""

from __future__ import annotations

import hiredis

from shared import ending, log, queue, usage_stream, wake
from shared.ending import Bill
from shared.resp import Link, Lost
from shared.wire.usage import UsageEvent, encode
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
            if not link.is_open:
                await link.wait_open(BACK_WITHIN)
            await end(link, worker, request, used)
        except (Lost, hiredis.HiredisError) as error:
            logger.warning("cannot finish", job=request.claimed.id, error=str(error))
        else:
            return
    # The lease runs out and another attempt finds nobody waiting for it.
    if used is not None:
        usage_stream.lament(encode(used))


async def end(link: Link, worker: str, request: Request, used: UsageEvent | None) -> None:
    claimed = request.claimed
    event, owed = (None, None) if used is None else (encode(used), bill(request, used))
    if request.reason == "released" and not request.over:
        await queue.release(link, worker, claimed.queue, claimed.id)
        if request.passed_to is not None:
            wake.call(link, request.passed_to, claimed.queue, 1)
        return
    ours = request.reason != "lost" and await ending.finish(
        link, worker, claimed.queue, claimed.id, event, owed, blind=request.blind
    )
    if not ours and request.over and event is not None:
        # Another has the job, and nobody waits for it: the answer was given.
        await ending.conclude(link, claimed.id, event, owed)


def bill(request: Request, used: UsageEvent) -> Bill | None:
    """What its hold is settled to; None: it holds nothing."""
    held = request.claimed.task.hold
    return Bill(held, used.tokens_in + used.tokens_out, used.micros) if held else None
