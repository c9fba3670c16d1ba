"""What a request may use up at most, and where that is counted while it runs.

The Lua calls of shared/lua read these as arrays: a new field goes to the end.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Draw(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A budget in one of its periods: the tag of the counter that it has in the tally, and its
    amounts; -1: none. The counter is kept until `expires_ms`."""

    tag: int
    tokens: int
    micros: int
    expires_ms: int


class Tally(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """All that limits a key or a project, behind the Redis key that counts it. 0: no limit."""

    name: str
    requests: int
    tokens: int
    concurrent: int
    draws: tuple[Draw, ...] = ()


class Hold(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The most that a request may use: `tokens` and `micros`.

    `ts_ms` is when the request came, which decides the period it is counted in; at `until_ms` it
    has ended. Both are epoch milliseconds. Its tallies are a text, the same for all requests of
    a key in an hour, which is what they are remembered by.
    """

    ts_ms: int
    tokens: int
    micros: int
    until_ms: int
    tallies: str


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Hold).decode
read_tallies = msgspec.json.Decoder(tuple[Tally, ...]).decode


def write_tallies(tallies: Iterable[Tally]) -> str:
    return msgspec.json.encode(tuple(tallies)).decode()
