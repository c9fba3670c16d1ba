"""Which adapters an engine has: load, close, unload, wait. Pure; times are seconds on one clock.

The rules; the same numbers stand in the code:

 1. Below the bound whoever waits gets the room at once, who waited longest first.
 2. At the bound an adapter that nobody uses, and that will not be asked for again sooner than a
    load takes, gives way at once: the one whose next use is farthest off first. That is guessed
    from how often it was asked for (`Loaded.off`), because in a rotation the adapter that was used
    longest ago is the very one that is wanted next.
 3. Otherwise those who wait are gathered. When one of them waited for as long as PATIENCE loads
    take, and so long passed since the last such round, as many adapters as are wanted are closed:
    new requests for them wait too, running ones end, and then they go. An adapter is not closed
    before it was loaded for that time either. So at most one part in PATIENCE + 1 of the time goes
    into loads, however many adapters are in rotation, and everybody is served.
 4. An engine for which several loads are as dear as one gets them together: a round waits until
    the last of the closed ones ended.

An adapter that a request uses is never unloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

PATIENCE = 4.0
LINGER = 1.0
"""Loads that the next use of an adapter must be off for it to give way at once."""


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    since: float
    """When it was loaded."""
    used: float
    """When a request last asked for it or ended."""
    users: int = 0
    every: float | None = None
    """Mean time between two requests for it; None: there was one at most."""
    closed: bool = False

    def off(self, now: float) -> float:
        """Seconds until it will be asked for again, as far as its past tells.

        One that is late by more than its usual time is thought to stay away as long again.
        """
        if self.users:
            return 0.0
        idle = now - self.used
        if self.every is None or idle >= 2 * self.every:
            return idle
        return max(0.0, self.every - idle)


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    bound: int
    """The most that may be loaded."""
    loaded: Mapping[str, Loaded]
    wanted: Mapping[str, float]
    """Those that requests wait for, and since when the first of them does."""
    load_seconds: float
    """What a load takes."""
    round_at: float = 0.0
    """When adapters were last closed, or what was loaded in their place became ready."""
    together: bool = False
    """Whether several loads are as dear as one."""


class Move(NamedTuple):
    load: tuple[str, ...] = ()
    unload: tuple[str, ...] = ()
    """Before the load."""
    close: tuple[str, ...] = ()
    reopen: tuple[str, ...] = ()
    """Closed ones whose room nobody needs any more."""
    next_at: float | None = None
    """When to ask again if nothing happens before; None: no need."""


def decide(rotation: Rotation, now: float) -> Move:
    """What to do when no load is under way."""
    loaded = rotation.loaded
    absent = [name for name in by_age(rotation.wanted) if name not in loaded]
    closed = [name for name, one in loaded.items() if one.closed and one.users]
    room = max(0, rotation.bound - len(loaded))
    lack = max(0, len(absent) - room)  # 1
    linger = LINGER * rotation.load_seconds
    idle = [
        name
        for name, one in loaded.items()
        if not one.users and (one.closed or one.off(now) >= linger)
    ]
    idle.sort(key=lambda name: (not loaded[name].closed, -loaded[name].off(now), name))
    gone = idle[:lack]  # 2
    lack -= len(gone)
    close: list[str] = []
    if lack > len(closed) and now >= due_at(rotation, absent[0]):  # 3
        freed = closable(rotation, now, gone)[: lack - len(closed)]
        gone += [name for name in freed if not loaded[name].users]
        close = [name for name in freed if loaded[name].users]
        lack -= len(freed)
    spare = closed[lack:] if lack < len(closed) else []
    reopen = [*spare, *(name for name in idle if loaded[name].closed and name not in gone)]
    if rotation.together and (close or len(closed) > len(spare)):  # 4
        gone = []
    return Move(
        tuple(absent[: room + len(gone)]),
        tuple(gone),
        tuple(close),
        tuple(reopen),
        next_at(rotation, now, absent[0]) if lack > 0 else None,
    )


def usual(every: float | None, gap: float, load_seconds: float) -> float | None:
    """The mean time between two requests after one that came `gap` seconds behind the last.

    Those that come sooner than a load takes are one, as far as a load is concerned.
    """
    if gap < load_seconds:
        return every
    return gap if every is None else (every + gap) / 2


def by_age(wanted: Mapping[str, float]) -> list[str]:
    return sorted(wanted, key=lambda name: (wanted[name], name))


def due_at(rotation: Rotation, first: str) -> float:
    """When adapters may be closed for the one that is waited for longest."""
    patience = PATIENCE * rotation.load_seconds
    return max(rotation.wanted[first], rotation.round_at) + patience


def closable(rotation: Rotation, now: float, gone: list[str]) -> list[str]:
    """Those that were loaded for long enough, unused ones first, then the longest loaded."""
    patience = PATIENCE * rotation.load_seconds
    found = [
        name
        for name, one in rotation.loaded.items()
        if name not in gone and not one.closed and now >= one.since + patience
    ]

    def rank(name: str) -> tuple[bool, float, float, str]:
        one = rotation.loaded[name]
        return (one.users > 0, -one.off(now), one.since, name)

    return sorted(found, key=rank)


def next_at(rotation: Rotation, now: float, first: str) -> float | None:
    """The next time at which another answer is possible by time alone."""
    patience = PATIENCE * rotation.load_seconds
    linger = LINGER * rotation.load_seconds
    times = [due_at(rotation, first)]
    for one in rotation.loaded.values():
        times.append(one.since + patience)
        if not one.users:
            times.append(one.used + max(linger, 2 * (one.every or 0.0)))
    return min((time for time in times if time > now), default=None)
