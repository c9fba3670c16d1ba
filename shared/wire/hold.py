"""What a request may use up at most, and where that is counted while it runs.

The Lua calls of shared/lua read these structs as arrays: a new field goes to the end.
"""

from __future__ import annotations

import msgspec


class Limited(msgspec.Struct, array_like=True, frozen=True):
    """The limits of a key or a project, each behind the Redis key that it is counted in.

    `log` is a list of times, `buckets` a hash of tokens by the second, `open` a sorted set of jobs.
    0: no limit.
    """

    log: str
    requests: int
    buckets: str
    tokens: int
    open: str
    concurrent: int


class Draw(msgspec.Struct, array_like=True, frozen=True):
    """A budget in one of its periods: the key that counts it, and its amounts; -1: none.

    It is kept until `expires_ms`, which is put off by each request where it is `endless`.
    """

    counter: str
    tokens: int
    micros: int
    expires_ms: int
    endless: bool


class Hold(msgspec.Struct, array_like=True, frozen=True):
    """The most that a request may use: `tokens` and `micros`.

    `ts_ms` is when the request came, which decides the period it is counted in; at `until_ms` it
    has ended. Both are epoch milliseconds.
    """

    ts_ms: int
    tokens: int
    micros: int
    until_ms: int
    limits: tuple[Limited, ...] = ()
    draws: tuple[Draw, ...] = ()


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Hold).decode
decode_counter = msgspec.msgpack.Decoder(tuple[str, int, int, int, int, int, int]).decode
"""Epoch, generation, then tokens and micro-units: spent (-1 tokens: not known), and held;
epoch ms when to look again, or 0."""
