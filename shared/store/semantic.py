"""Answers by what their questions mean, one project and scope at a time, and their trial."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shared.db import Connection, Pool, queries
from shared.store.window import rows
from shared.wire.semantic import Trial

SQL = queries("semantic")
NEIGHBOURS = 8
"""The nearest ones that are looked at."""


class Question(msgspec.Struct, frozen=True):
    """`text` may be answered by what is kept in the same project and `scope`, 32 bytes that stand
    for everything else the answer depends on. `digest` is that of the text."""

    project: str
    scope: bytes
    text: str
    digest: bytes
    model: str


class Neighbour(msgspec.Struct, frozen=True):
    """An answer kept for `question`; `similarity` is the cosine, 1 at most."""

    id: int
    question: str
    answer: bytes
    similarity: float


class Room(msgspec.Struct, frozen=True):
    """What one project may keep, and for how long."""

    answers: int
    bytes: int
    seconds: float


async def nearest(
    pool: Pool, question: Question, embedding: Sequence[float], threshold: float
) -> list[Neighbour]:
    """The nearest first; none when the project's cache was turned off."""
    values = {
        "project": question.project,
        "scope": question.scope,
        "embedding": literal(embedding),
        "width": len(embedding),
        "threshold": threshold,
        "limit": NEIGHBOURS,
    }
    async with pool.connection() as connection:
        return await rows(connection, SQL["find_neighbours"], values, Neighbour)


async def keep(
    pool: Pool, question: Question, embedding: Sequence[float], answer: bytes, room: Room
) -> None:
    """In place of an older answer to the same text."""
    values = {
        "project": question.project,
        "scope": question.scope,
        "digest": question.digest,
        "embedding": literal(embedding),
        "bytes": len(answer) + len(question.text.encode()) + 2 * len(embedding),
        "seconds": room.seconds,
        "model": question.model,
        "question": question.text,
        "answer": answer,
    }
    async with pool.connection() as connection:
        await connection.execute(SQL["keep_answer"], values)


async def trim(pool: Pool, project: str, room: Room) -> int:
    """Drops what is over the room of a project; returns how many answers went."""
    values = {"project": project, "most": room.answers, "most_bytes": room.bytes}
    async with pool.connection() as connection:
        return (await connection.execute(SQL["trim_answers"], values)).rowcount


async def purge(
    connection: Connection, *, project: str | None = None, models: Sequence[str] | None = None
) -> int:
    """Drops the answers of a project, of models, or of both together; returns how many."""
    values = {"project": project, "models": None if models is None else list(models)}
    return (await connection.execute(SQL["purge_answers"], values)).rowcount


async def purge_expired(pool: Pool) -> int:
    async with pool.connection() as connection:
        return (await connection.execute(SQL["purge_expired"])).rowcount


async def drop(connection: Connection, project: str, id_: int) -> None:
    """One answer that turned out wrong."""
    await connection.execute(SQL["drop_answer"], {"project": project, "id": id_})


async def count_hit(pool: Pool, project: str, id_: int) -> None:
    async with pool.connection() as connection:
        await connection.execute(SQL["count_hit"], {"project": project, "id": id_})


async def count_check(connection: Connection, project: str, *, wrong: bool) -> Trial:
    """The trial with this check; its row stays locked to the end of the transaction."""
    values = {"project": project, "wrong": int(wrong)}
    return (await rows(connection, SQL["count_check"], values, Trial))[0]


async def find_trial(connection: Connection, project: str) -> Trial:
    found = await rows(connection, SQL["find_trial"], {"project": project}, Trial)
    return found[0] if found else Trial()


async def turn_off(connection: Connection, project: str, reason: str) -> bool:
    """False when it was off already."""
    values = {"project": project, "reason": reason}
    return (await connection.execute(SQL["turn_off"], values)).rowcount == 1


async def restart(connection: Connection, project: str) -> None:
    """Forgets what was checked, so that a cache that was turned off is on again."""
    await connection.execute(SQL["restart_trial"], {"project": project})


async def measure(connection: Connection, project: str) -> tuple[int, int]:
    """Answers and bytes that a project keeps."""
    return await _measure(connection, project)


async def measure_all(connection: Connection) -> tuple[int, int]:
    """Answers and bytes that all projects keep."""
    return await _measure(connection, None)


async def _measure(connection: Connection, project: str | None) -> tuple[int, int]:
    cursor = await connection.execute(SQL["measure_answers"], {"project": project})
    row = await cursor.fetchone()
    assert row is not None
    return row["answers"], row["bytes"]


def literal(embedding: Sequence[float]) -> str:
    """As halfvec reads it."""
    return "[" + ",".join(f"{value:.6g}" for value in embedding) + "]"
