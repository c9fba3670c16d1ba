"""What one request used: its line in the ledger."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from shared.wire.task import Class

Cache = Literal["none", "exact", "semantic"]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class UsageEvent(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """Written once for each request, by whoever ended it; `(ts_ms, request_id)` names it.

    `ts_ms` is when the request came, in epoch milliseconds, which its id tells, too. `model` is
    the base model and `adapter` the version of an adapter on it. Tokens are those that the engine
    counted; of `tokens_in` it found `tokens_cached` in its cache. Times are milliseconds since the
    request came, and None for what it never came to: `queue_ms` until a worker took it, of which
    the model was not ready for `load_ms`, `first_ms` until the first content. `gpu_ms` is its
    share of the batch, `millijoules` its share of what the card used. `micros` is what it cost.
    """

    ts_ms: Count
    request_id: str
    project: str
    key: str
    model: str
    adapter: str | None = None
    endpoint: str
    service: Class
    tokens_in: Count = 0
    tokens_cached: Count = 0
    tokens_out: Count = 0
    queue_ms: Count | None = None
    load_ms: Count | None = None
    first_ms: Count | None = None
    total_ms: Count
    gpu_ms: Count = 0
    millijoules: Count | None = None
    micros: Count = 0
    status: Annotated[int, msgspec.Meta(ge=100, le=599)]
    code: str | None = None
    cache: Cache = "none"
    streamed: bool


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(UsageEvent).decode
