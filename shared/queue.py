"""The job queue: arq's keys and formats, each operation one Lua call.

Stock arq needs 3 round trips to enqueue and 7 to claim, start and finish, and a claimed job stays
locked for the longest job timeout. Here a claim is a lease of LEASE_MS, renewed by its worker.
A job's score is its place in line while it waits and the end of its lease while it runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from shared import ending, keys, log, usage_stream, wake
from shared.resp import Argument, forget
from shared.script import LinkLike, Script
from shared.wire import task
from shared.wire.task import Class, Task

HORIZON_MS = 3_600_000
"""Waiting jobs are scored this far in the past, running ones at the present."""
BOUNDARY_MS = HORIZON_MS // 2
"""A score older than this waits; a younger one is a lease."""
SLACK_MS: dict[Class, int] = {"interactive": 0, "standard": 5_000, "batch": 600_000}
"""How much longer than an interactive job a class may be made to wait."""
LIFE_MS = 86_400_000
MOST_HANDED = 32_768
"""Bytes of a job that is handed over: it is in the call once more."""
NO_LIMIT = 1 << 31
"""For a job that was let in before."""

logger = log.get("queue")


class Job(msgspec.Struct):
    """arq's job, as its own serializer would lay it out."""

    t: int | None
    f: str
    a: tuple[bytes]
    k: dict[str, Any]
    et: int


class Claimed(NamedTuple):
    queue: str
    id: str
    attempt: int
    task: Task
    job: bytes


class Placed(NamedTuple):
    """`waiting` counts the jobs ahead. Of a job with a hold there is also how its tallies stand,
    and where it is limited or unfunded, what is in the way: shared.holds reads these. `late`: a
    budget is to be looked up again."""

    state: Literal["queued", "known", "full", "limited", "unfunded"]
    waiting: int
    standing: Sequence[int] = ()
    obstacle: list[Any] | None = None
    late: bool = False


encode_job = msgspec.msgpack.Encoder().encode
decode_job = msgspec.msgpack.Decoder(Job).decode
serialize = msgspec.msgpack.encode
"""For arq: its default would be pickle."""
deserialize = msgspec.msgpack.decode

_enqueue = Script("clock", "line", "enqueue", grows=True)
_reserve = Script("clock", "line", "tally", "limits", "hold", "enqueue", grows=True)
"""The same for a job with a hold."""
_claim = Script("clock", "line", "tally", "hold", "event", "claim")
_renew = Script("renew")
_restore = Script("clock", "tally", "hold", "restore", grows=True)
_release = Script("release")
_decline = Script("clock", "line", "decline")
_reclaim = Script("reclaim")
QUEUED = 1
CANCELLED = 2
_STATES: dict[int, Literal["queued", "known", "full", "limited", "unfunded"]] = {
    QUEUED: "queued",
    0: "known",
    -1: "full",
    -2: "limited",
    -3: "unfunded",
}


def cost_ms(job: Task) -> int:
    """How far one request pushes its own key's next one back: grows with its size, bounded."""
    return min(2_000, 100 + len(job.body) // 64)


async def enqueue(
    link: LinkLike,
    job: Task,
    worker: str | None,
    limit: int,
    now_ms: int,
    attempt: int | None = None,
    *,
    hand: bool = False,
) -> Placed:
    """Queues a task and calls `worker` for it; any worker of the queue may take it.

    `attempt` > 1 makes the worker ask first how far the reply got. Such a job was let in before and
    is refused nothing. `hand`: where nobody waits the worker gets the job with the call and has
    its lease, which spares it the claim; if it has no place for it, it hands it back.
    """
    data = encode_job(Job(attempt, job.kind, (task.encode(job),), {}, now_ms))
    life = max(1_000, job.deadline_ms - now_ms + 60_000)
    script = _reserve if job.hold else _enqueue
    state, waiting, *more = await script.run(
        link,
        (
            keys.queue(job.model),
            keys.JOB + job.id,
            keys.wake(worker or ""),
            keys.share(job.model, job.key),
            keys.RETRY + job.id,
            keys.HOLD + job.id,
            keys.HOLDS,
            keys.IN_PROGRESS + job.id,
        ),
        (
            job.id,
            data,
            min(life, LIFE_MS),
            limit,
            SLACK_MS[job.service],
            cost_ms(job),
            HORIZON_MS,
            BOUNDARY_MS,
            (attempt or 1) - 1,
            0 if worker is None else keys.WAKE_MS,
            job.hold,
            worker if hand and worker is not None and len(data) <= MOST_HANDED else b"",
            keys.LEASE_MS,
        ),
    )
    if state == QUEUED and more:
        return Placed("queued", waiting, more[1:], late=bool(more[0]))
    return Placed(_STATES[state], waiting, *more)


async def claim(link: LinkLike, worker: str, free: dict[str, int]) -> list[Claimed]:
    """Takes up to `free[queue]` jobs of each queue for `worker`; drops what is no job of ours."""
    names = list(free)
    flat = await _claim.run(
        link,
        names,
        (
            worker,
            keys.LEASE_MS,
            BOUNDARY_MS,
            keys.JOB,
            keys.IN_PROGRESS,
            keys.RETRY,
            keys.ABORT,
            keys.HOLD,
            keys.WORDS,
            keys.HOLDS,
            keys.USAGE,
            keys.USAGE_LOST,
            usage_stream.MOST_EVENTS,
            *free.values(),
        ),
    )
    claimed = [
        _read(link, worker, names[number - 1], name.decode(), tries, data)
        for number, name, tries, data in zip(*[iter(flat)] * 4, strict=True)
    ]
    return [job for job in claimed if job is not None]


def receive(link: LinkLike, worker: str, call: bytes) -> Claimed | None:
    """The job that came with a call, whose lease is `worker`'s; None: it is no job of ours."""
    _, id_, name, data = call.split(wake.HANDED, 3)
    return _read(link, worker, name.decode(), id_.decode(), 1, data)


def _read(
    link: LinkLike, worker: str, queue: str, id_: str, tries: int, data: bytes
) -> Claimed | None:
    try:
        job = decode_job(data)
        asked = task.decode(job.a[0])
    except msgspec.MsgspecError as error:
        logger.error("not a job of ours, dropped", job=id_, error=str(error))
        # Awaited, its loss of the connection would cost the other claims of this round.
        dropped = asyncio.ensure_future(ending.finish(link, worker, queue, id_))
        dropped.add_done_callback(forget)
        return None
    return Claimed(queue, id_, max(tries, job.t or 0), asked, data)


async def renew(
    link: LinkLike, worker: str, jobs: dict[str, str], words: Mapping[str, bytes] | None = None
) -> list[str]:
    """Prolongs the leases of `jobs` (id → queue) and keeps their last words; returns the lost."""
    values: list[Argument] = []
    for id_ in jobs:
        values += (id_, (words or {}).get(id_, b""))
    lost = await _renew.run(
        link,
        (keys.ABORT, *jobs.values()),
        (
            worker,
            keys.LEASE_MS,
            keys.IN_PROGRESS,
            keys.JOB,
            keys.WORDS,
            keys.WORDS_MS,
            *values,
        ),
    )
    return [id_.decode() for id_ in lost]


async def restore(link: LinkLike, worker: str, claimed: Claimed) -> bool:
    """Re-asserts a running job after Redis may have forgotten it; False: a later attempt runs."""
    id_ = claimed.id
    return bool(
        await _restore.run(
            link,
            (
                claimed.queue,
                keys.JOB + id_,
                keys.IN_PROGRESS + id_,
                keys.RETRY + id_,
                keys.HOLD + id_,
                keys.HOLDS,
            ),
            (
                id_,
                claimed.job,
                LIFE_MS,
                worker,
                keys.LEASE_MS,
                claimed.attempt,
                claimed.task.hold,
            ),
        )
    )


async def release(link: LinkLike, worker: str, queue: str, id_: str) -> bool:
    """Hands an unfinished job back for another worker to go on with; its gateway calls one."""
    return bool(await _release.run(link, (queue, keys.IN_PROGRESS + id_), (id_, worker)))


async def decline(link: LinkLike, claimed: Claimed, worker: str) -> bool:
    """Puts a job in line that was handed over; False: it was cancelled, and stays the worker's."""
    job = claimed.task
    names = (
        claimed.queue,
        keys.IN_PROGRESS + job.id,
        keys.share(job.model, job.key),
        keys.ABORT,
    )
    values = (job.id, worker, cost_ms(job), SLACK_MS[job.service], HORIZON_MS, BOUNDARY_MS)
    state: int = await _decline.run(link, names, values)
    return state != CANCELLED


async def reclaim(link: LinkLike, dead: str, queues: Sequence[str]) -> int:
    """Frees what a dead worker held, without waiting for its leases; returns how many jobs."""
    held: int = await _reclaim.run(link, queues, (dead, keys.IN_PROGRESS, BOUNDARY_MS))
    return held


async def exists(link: LinkLike, id_: str) -> bool:
    """Whether the job still waits or runs."""
    return bool(await link.call("EXISTS", keys.JOB + id_))


async def vanished(link: LinkLike, ids: Sequence[str]) -> set[str]:
    """Those jobs that neither wait nor run."""
    if not ids or await link.call("EXISTS", *(keys.JOB + id_ for id_ in ids)) == len(ids):
        return set()
    return {id_ for id_ in ids if not await exists(link, id_)}
