"""What a gateway asks a worker to do."""

from __future__ import annotations

from typing import Literal

import msgspec

from shared.wire.account import Price

Kind = Literal["chat", "completion", "embedding"]
Class = Literal["interactive", "standard", "batch"]


class Adapter(msgspec.Struct, array_like=True, frozen=True):
    """One version of a LoRA adapter.

    Engines know it by `name`, which means the same weights for ever; `path` is a folder or a file,
    absolute or relative to <home>/models.
    """

    name: str
    path: str


class Origin(msgspec.Struct, array_like=True, frozen=True):
    """Whose use of the hub a task is, for the ledger.

    `request` is the id of the request as its caller sees it, `endpoint` the path it came to
    behind the version.
    """

    request: str
    project: str
    endpoint: str


class Task(msgspec.Struct, array_like=True, frozen=True):
    """One request, validated by the gateway.

    `model` is the base model, whose queue it waits in, and `adapter` the version of a LoRA adapter
    on it that answers, whatever the adapter's public name comes to mean meanwhile. `body` is the
    client's JSON as it came. `gateway` names the reply stream and `stream` the request on it.
    `streamed` asks for items as they appear, otherwise for one Answer. `deadline_ms` is wall-clock
    epoch milliseconds.
    """

    id: str
    kind: Kind
    model: str
    gateway: str
    stream: int
    streamed: bool
    body: bytes
    key: str
    service: Class
    deadline_ms: int
    adapter: Adapter | None = None
    origin: Origin | None = None
    """None: nobody's; its use is not written down."""
    price: Price | None = None
    """As it was when the request came; None: free."""
    hold: bytes = b""
    """shared.wire.hold.Hold as it is kept beside the job; empty: nothing limits its caller."""
    most: int = 0
    """Tokens after which each answer is to be cut; 0: its engine stops by itself."""


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Task).decode
