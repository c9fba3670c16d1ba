"""Kept answers in Redis, with exact books of their bytes, and who computes one for all who wait.

Each operation is one Lua call. Nothing relies on the server's own eviction: what is kept is in an
index with its size, its last use and its end, and goes before something else would not fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from shared import keys
from shared.script import LinkLike, Script

OVERHEAD = 768
"""Bytes that Redis takes for an entry beyond the answer itself: its name, its note, its places in
the index. More than was measured, so that the books never say less than there is."""
AT_A_TIME = 1_000
"""Entries one call looks at."""

_look = Script("clock", "cache_drop", "cache_look")
_keep = Script("clock", "cache_drop", "cache_keep", grows=True)
_release = Script("cache_release")
_renew = Script("cache_renew")
_sweep = Script("clock", "cache_drop", "cache_sweep")
_purge = Script("clock", "cache_drop", "cache_purge")

What = Literal["alone", "hit", "lead", "follow"]
_WHATS: tuple[What, ...] = ("alone", "hit", "lead", "follow")


class Place(NamedTuple):
    """Where an answer is kept: `digest` names all that it depends on, in hex.

    `model` is the base model and `version` that of an adapter on it, or empty.
    """

    digest: str
    project: str
    model: str
    version: str
    flight: str


class Looked(NamedTuple):
    """`at_ms` is Redis's time. For a hit the answer and its age in ms."""

    what: What
    at_ms: int
    data: bytes = b""
    age_ms: int = 0


class Room(NamedTuple):
    """What may be kept: `bytes` in all, and each for `life_ms`."""

    bytes: int
    life_ms: int


class Size(NamedTuple):
    answers: int
    bytes: int


async def look(link: LinkLike, place: Place, owner: str, oldest_ms: int) -> Looked:
    """The answer, if it is no older than `oldest_ms` (-1: of any age, 0: never).

    Else `owner`, unless it is empty, computes it for all or is told that another does.
    """
    found = await _look.run(
        link,
        (*keys.CACHE, keys.answer(place.digest), place.flight),
        (keys.ANSWER, place.digest, owner, keys.FLIGHT_MS, oldest_ms),
    )
    return Looked(_WHATS[found[0]], *found[1:])


async def keep(
    link: LinkLike, place: Place, owner: str, data: bytes, began_ms: int, room: Room
) -> bool:
    """Ends the owner's flight; False when the answer is too large or was purged since it began."""
    kept, _ = await _keep.run(
        link,
        (
            *keys.CACHE,
            keys.answer(place.digest),
            place.flight,
            *marks_of(place.project, place.model, place.version),
        ),
        (
            keys.ANSWER,
            place.digest,
            owner,
            data,
            began_ms,
            place.project,
            place.model,
            place.version,
            room.life_ms,
            room.bytes,
            OVERHEAD,
            keys.LANDED,
            keys.ALONE_MS,
        ),
    )
    return bool(kept)


async def release(link: LinkLike, flight: str, owner: str, *, alone: bool) -> bool:
    """Ends a flight without an answer; `alone`: the others compute it each for himself."""
    pause = keys.ALONE_MS if alone else 0
    return bool(await _release.run(link, (flight,), (owner, pause, keys.LANDED)))


async def renew(link: LinkLike, led: Mapping[str, str]) -> None:
    """Prolongs flights (name → owner)."""
    await _renew.run(link, tuple(led), (keys.FLIGHT_MS, *led.values()))


async def sweep(link: LinkLike, most_bytes: int) -> Size:
    """Drops some of what has ended or is over `most_bytes`; returns what is kept now."""
    values = (keys.ANSWER, most_bytes, AT_A_TIME)
    answers, size, _ = await _sweep.run(link, keys.CACHE, values)
    return Size(answers, size)


async def purge(link: LinkLike, project: str = "", models: Sequence[str] = ()) -> int:
    """Drops the answers of a project, of models or versions, or of these in it; how many."""
    dropped = 0
    for model in models or ("",):
        cursor = "0"
        while True:
            values = (keys.ANSWER, cursor, AT_A_TIME, project, model, keys.PURGE_MS)
            names = (*keys.CACHE, keys.purge(project, model))
            after, gone = await _purge.run(link, names, values)
            dropped += gone
            cursor = after.decode()
            if cursor == "0":
                break
    return dropped


async def mark_meant(link: LinkLike, project: str, models: Sequence[str] = ()) -> None:
    """Notes that the semantic cache of a project is emptied, of all its models or of these."""
    at = await now(link)
    for model in models or ("",):
        await link.call("SET", keys.purge_meant(project, model), at, "PX", keys.PURGE_MS)


async def now(link: LinkLike) -> int:
    """Redis's time, in ms."""
    seconds, micros = await link.call("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


async def purged(link: LinkLike, project: str, model: str, since_ms: int) -> bool:
    """Whether the semantic cache lost answers of this model in this project since then."""
    meant = (keys.purge_meant(project, name) for name in ("", model))
    marks = await link.call("MGET", *marks_of(project, model, ""), *meant)
    return any(mark is not None and int(mark) >= since_ms for mark in marks)


def marks_of(project: str, model: str, version: str) -> list[str]:
    """The purges that concern an answer."""
    models = ("", model, version) if version else ("", model)
    return [keys.purge(p, m) for p in ("", project) for m in models]


async def measure(link: LinkLike) -> Size:
    """What is kept."""
    total, notes = keys.CACHE[:2]
    size = await link.call("GET", total)
    return Size(await link.call("HLEN", notes), int(size or 0))
