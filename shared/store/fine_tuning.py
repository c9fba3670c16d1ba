"""Fine-tuning jobs, their events and checkpoints.

A job is moved by compare-and-set: callers name the states that it may come from, a trainer the
fencing number of its claim. None or False says that it was elsewhere by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from psycopg.types.json import Jsonb

from shared import ids
from shared.db import Connection, queries
from shared.store import metric
from shared.store.window import locked, rows
from shared.wire.openai.fine_tuning import Fields, JobError, Status
from shared.wire.training import Checkpoint, Claim, Created, Event, Job, Note, Outcome

SQL = queries("fine_tuning")
LEASE_SECONDS = 15.0
"""A claimed job belongs to its trainer this long after the last renewal."""
ASIDE_SECONDS = 15.0
"""For which others are tried before a job that there is no room for."""
KEPT_EVENTS = 500
"""The newest of a job that are all kept: of metrics, and of messages. Of those before, every second
one goes whenever they are as many again."""
THIN_EVERY = 100
"""Events between two looks whether they are too many."""
THINNED = "From here on older events are thinned out; the metrics file has every step"


async def insert(connection: Connection, job: Created, copied: int = 0) -> None:
    """`copied`: bytes of its files, which its trainer copies, and its project has as long as it is
    open."""
    values = msgspec.structs.asdict(job) | {"copied": copied}
    asked = Jsonb(msgspec.to_builtins(job.asked))
    await connection.execute(
        SQL["insert_job"], {**values, "asked": asked, "metadata": Jsonb(job.metadata)}
    )


async def find(connection: Connection, id_: str, project: str | None = None) -> Job | None:
    """`project` None: anybody's."""
    found = await select(connection, 1, id_=id_, project=project)
    return found[0] if found else None


async def select(
    connection: Connection,
    limit: int,
    *,
    project: str | None,
    id_: str | None = None,
    after: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> list[Job]:
    """The newest first; an empty `metadata` finds jobs that have none."""
    values = {
        "id": id_,
        "project": project,
        "after": after,
        "metadata": Jsonb(dict(metadata)) if metadata else None,
        "plain": metadata is not None and not metadata,
        "limit": limit,
    }
    return await rows(connection, SQL["find_jobs"], values, Job)


async def move(
    connection: Connection, id_: str, project: str, to: Status, origins: Sequence[Status]
) -> Status | None:
    """What its owner orders; the state it is in now. Resuming goes to `queued`."""
    values = {"id": id_, "project": project, "to": to, "from": list(origins)}
    return await status(connection, "move_job", values)


async def claim(connection: Connection, owner: str) -> Claim | None:
    """The job that waits longest, for this trainer; one that had begun before comes first, and one
    that there was no room for a moment ago last."""
    values = {"owner": owner, "seconds": LEASE_SECONDS}
    found = await rows(connection, SQL["claim_job"], values, Claim)
    return found[0] if found else None


async def renew(connection: Connection, claim: Claim) -> Status | None:
    """Prolongs a claim; the job's state tells what is wanted. None: the claim is lost."""
    return await fenced(connection, "renew_job", claim, seconds=LEASE_SECONDS)


async def release(connection: Connection, claim: Claim) -> None:
    await connection.execute(SQL["release_job"], {"id": claim.id, "fence": claim.fence})


async def release_all(connection: Connection, owner: str) -> None:
    """Whatever this trainer had claimed."""
    await connection.execute(SQL["release_jobs"], {"owner": owner})


async def planned(connection: Connection, claim: Claim, plan: Fields) -> Status | None:
    """Its files are valid, and everything is chosen."""
    return await fenced(connection, "plan_job", claim, plan=Jsonb(plan))


async def run(connection: Connection, claim: Claim) -> Status | None:
    """A child is about to be started; older jobs that wait for room are overtaken."""
    moved = await fenced(connection, "run_job", claim)
    if moved is not None:
        await connection.execute(SQL["overtake_jobs"], {"id": claim.id})
    return moved


async def waits(connection: Connection, claim: Claim, why: str) -> Status | None:
    """None also where it waits for that already."""
    return await fenced(connection, "tell_waiting", claim, why=why)


async def aside(
    connection: Connection, claim: Claim, why: str, *, had_its_turn: bool
) -> Status | None:
    """Others are tried before it for a while; `had_its_turn`: it can be overtaken again."""
    values = {"why": why, "seconds": ASIDE_SECONDS, "had_its_turn": had_its_turn}
    return await fenced(connection, "aside_job", claim, **values)


async def others(connection: Connection, claim: Claim) -> bool:
    """Whether another job could be tried now."""
    return await locked(connection, SQL["find_claimable"], {"id": claim.id})


async def tell_places(connection: Connection) -> list[str]:
    """Says in an event of every job that waits which place it has now; those that were told."""
    cursor = await connection.execute(SQL["tell_places"])
    return [row["job_id"] for row in await cursor.fetchall()]


async def wait(connection: Connection, claim: Claim) -> Status | None:
    """It made room for others and goes on later."""
    return await fenced(connection, "wait_job", claim)


async def step(
    connection: Connection, claim: Claim, number: int, of: int, eta: float
) -> Status | None:
    """None also for a step that is known already, as after a start from a checkpoint."""
    return await fenced(connection, "step_job", claim, step=number, steps=of, eta=eta)


async def fail(connection: Connection, claim: Claim, error: JobError) -> Status | None:
    return await fenced(connection, "fail_job", claim, error=Jsonb(msgspec.to_builtins(error)))


async def succeed(
    connection: Connection, claim: Claim, model: str, outcome: Outcome
) -> Status | None:
    return await fenced(
        connection,
        "succeed_job",
        claim,
        model=model,
        tokens=outcome.tokens,
        result_file=outcome.file,
        metrics=Jsonb(outcome.metrics),
    )


async def count_open(connection: Connection, project: str) -> int:
    """Jobs that have not ended, those that are paused among them."""
    cursor = await connection.execute(SQL["count_open_jobs"], {"project": project})
    row = await cursor.fetchone()
    return 0 if row is None else int(row["open"])


async def waiting_before(connection: Connection, id_: str) -> int:
    """Jobs that are open and older, whoever's."""
    cursor = await connection.execute(SQL["count_jobs_before"], {"id": id_})
    row = await cursor.fetchone()
    return 0 if row is None else int(row["waiting"])


async def note(
    connection: Connection, id_: str, notes: Sequence[Note], fence: int | None = None
) -> bool:
    """Writes events, in one transaction with its caller's, one writer of a job after the other.

    False: the claim with this fencing number is lost, nothing was written.
    """
    values = {"id": id_, "fence": fence, "count": len(notes)}
    cursor = await connection.execute(SQL["lock_fenced_job"], values)
    if (row := await cursor.fetchone()) is None:
        return False
    for each in notes:
        await insert_event(connection, id_, each)
        if each.type == "metrics":
            await metric.put(connection, id_, each.data)
    if row["noted"] % THIN_EVERY < len(notes):
        await thin_events(connection, id_)
    return True


async def validated(connection: Connection, claim: Claim, step: int, note_: Note) -> bool:
    """As `note`, once a step."""
    if not await note(connection, claim.id, (), claim.fence):
        return False
    if not await metric.validated(connection, claim.id, step):
        await note(connection, claim.id, (note_,), claim.fence)
    return True


async def insert_event(connection: Connection, job: str, note: Note) -> None:
    values = {**msgspec.structs.asdict(note), "id": job, "data": Jsonb(note.data)}
    await connection.execute(SQL["insert_event"], values)


async def thin_events(connection: Connection, job: str) -> None:
    """Takes every second one of the older events where there are too many; says so once."""
    cursor = await connection.execute(SQL["thin_events"], {"job": job, "keep": KEPT_EVENTS})
    if cursor.rowcount and await locked(connection, SQL["told_thinned"], {"job": job}):
        await insert_event(connection, job, Note(THINNED))


async def events(
    connection: Connection, job: str, limit: int, before: int | None = None
) -> list[Event]:
    """The newest first."""
    values = {"job": job, "after": before, "limit": limit}
    return await rows(connection, SQL["find_events_down"], values, Event)


async def following(connection: Connection, job: str, limit: int, after: int = 0) -> list[Event]:
    """The oldest first, behind the one with number `after`."""
    values = {"job": job, "after": after, "limit": limit}
    return await rows(connection, SQL["find_events_up"], values, Event)


async def insert_checkpoint(
    connection: Connection, job: str, step: int, model: str, metrics: Fields
) -> None:
    """One that is known already stays as it is."""
    values = {"id": ids.new("ftckpt_"), "job": job, "step": step, "model": model}
    await connection.execute(SQL["insert_checkpoint"], {**values, "metrics": Jsonb(metrics)})


async def retire_checkpoints(connection: Connection, job: str, keep: int) -> list[str]:
    """Forgets all but the newest, the best and those of aliases; the models of those that went.

    Whoever points an alias at one of them holds it: here they are held first, then looked at.
    """
    await connection.execute(SQL["lock_checkpoint_models"], {"job": job})
    cursor = await connection.execute(SQL["retire_checkpoints"], {"job": job, "keep": keep})
    return [row["model"] for row in await cursor.fetchall()]


async def ended(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Those of some jobs that are over and no trainer's any more."""
    cursor = await connection.execute(SQL["find_ended_jobs"], {"ids": list(ids)})
    return [row["id"] for row in await cursor.fetchall()]


async def checkpoints(
    connection: Connection, job: str, limit: int, after: str | None = None
) -> list[Checkpoint]:
    """The newest first."""
    values = {"job": job, "limit": limit, "after": after}
    return await rows(connection, SQL["find_checkpoints"], values, Checkpoint)


async def fenced(
    connection: Connection, name: str, claim: Claim, **values: object
) -> Status | None:
    return await status(connection, name, {"id": claim.id, "fence": claim.fence, **values})


async def status(connection: Connection, name: str, values: Mapping[str, object]) -> Status | None:
    cursor = await connection.execute(SQL[name], values)
    row = await cursor.fetchone()
    return None if row is None else row["status"]
