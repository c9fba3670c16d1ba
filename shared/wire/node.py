"""What a worker says of itself every second."""

from __future__ import annotations

from typing import Literal

import msgspec

ModelState = Literal["absent", "loading", "ready", "asleep", "draining", "failed"]


class WorkerState(msgspec.Struct, frozen=True):
    """A heartbeat. `running` counts jobs; `started_ms` is epoch milliseconds."""

    name: str
    lane: str
    host: str
    pid: int
    started_ms: int
    running: int
    models: dict[str, ModelState]


encode_state = msgspec.msgpack.Encoder().encode
decode_state = msgspec.msgpack.Decoder(WorkerState).decode
