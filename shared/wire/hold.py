"""What a request may use up at most, and where that is counted while it runs.

The Lua calls of shared/lua read these as arrays: a new field goes to the end.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

import msgspec

HEAD = Struct("<qqqqI")
"""As shared/lua/tally.lua unpacks it."""


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


class Hold(NamedTuple):
    """The most that a request may use: `tokens` and `micros`.

    `ts_ms` is when the request came, which decides the period it is counted in; at `until_ms` it
    has ended. Both are epoch milliseconds. Its `number` of tallies come packed: they are the same
    for all requests of a key in an hour.
    """

    ts_ms: int
    tokens: int
    micros: int
    until_ms: int
    number: int
    tallies: bytes


pack_tallies = msgspec.msgpack.Encoder().encode
read_tallies = msgspec.msgpack.Decoder(tuple[Tally, ...]).decode


def encode(hold: Hold) -> bytes:
    return HEAD.pack(*hold[:-1]) + hold.tallies


def decode(data: bytes) -> Hold:
    ts_ms, tokens, micros, until_ms, number = HEAD.unpack_from(data)
    return Hold(ts_ms, tokens, micros, until_ms, number, data[HEAD.size :])
