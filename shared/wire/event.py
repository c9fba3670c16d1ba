"""What a worker sends back, and what a gateway tells a worker.

A reply is a run of items numbered from 0. `(worker, attempt)` names who produced an item: a
gateway listens to one producer at a time, and a new attempt must first ask `Where`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from shared.wire.node import ModelReport
from shared.wire.task import Adapter


class Usage(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Token counts as the engine reported them."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0


class Started(msgspec.Struct, array_like=True, frozen=True, gc=False, tag_field="item", tag=0):
    """A worker has begun with the job at `at`, in monotonic seconds of its machine; nothing was
    generated yet.

    `ready` says for how many seconds its model had been ready then, where it was.
    """

    at: float
    ready: float | None = None


class Text(msgspec.Struct, array_like=True, frozen=True, gc=False, tag_field="item", tag=1):
    """More content of one choice. The common item, hence the smallest."""

    choice: int
    text: str


class Delta(msgspec.Struct, array_like=True, frozen=True, gc=False, tag_field="item", tag=2):
    """Anything else a chunk can carry.

    `delta` is the JSON of the chunk's delta object, `logprobs` the JSON of its logprobs or empty.
    `raw` is the engine's own text behind it, which is what a later attempt continues from; None
    where the engine does not tell it and the reply cannot be continued.
    """

    choice: int
    raw: str | None
    delta: bytes
    logprobs: bytes = b""


class Finish(msgspec.Struct, array_like=True, frozen=True, gc=False, tag_field="item", tag=3):
    """One choice has ended; `reason` is OpenAI's finish_reason, `usage` what it alone took."""

    choice: int
    reason: str
    usage: Usage


class Done(msgspec.Struct, array_like=True, frozen=True, gc=False, tag_field="item", tag=4):
    """The last item of a streamed reply."""

    usage: Usage


class Failed(msgspec.Struct, array_like=True, frozen=True, gc=False, tag_field="item", tag=5):
    """The last item of a reply that ended in an error."""

    status: int
    type: str
    code: str | None
    param: str | None
    message: str
    retry_after: float | None = None


class Choice(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One whole choice. `tool_calls` and `logprobs` are JSON or empty; `text` None is null."""

    text: str | None
    reason: str
    tool_calls: bytes = b""
    logprobs: bytes = b""
    reasoning: str | None = None


class Answer(msgspec.Struct, array_like=True, frozen=True, gc=False, tag_field="item", tag=6):
    """The only item of a reply that was asked for in one piece."""

    choices: list[Choice]
    usage: Usage


class Vectors(msgspec.Struct, array_like=True, frozen=True, gc=False, tag_field="item", tag=7):
    """Embeddings: `count` rows of `width` little-endian float32."""

    count: int
    width: int
    data: bytes
    usage: Usage


class Where(msgspec.Struct, array_like=True, frozen=True, gc=False, tag_field="item", tag=8):
    """A later attempt asks how far the reply got. Not numbered: its index is -1."""


Item = Started | Text | Delta | Finish | Done | Failed | Answer | Vectors | Where
LAST = (Done, Failed, Answer, Vectors)


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One item on its way: `stream` is the gateway's number for the request."""

    stream: int
    attempt: int
    index: int
    item: Item


class Batch(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What one step of a worker puts on one gateway's reply stream."""

    worker: str
    entries: list[Entry]


class Cancel(msgspec.Struct, array_like=True, frozen=True, tag_field="item", tag=0):
    """Stop this job, its caller is gone."""

    job: str


class Progress(msgspec.Struct, array_like=True, frozen=True):
    """What a gateway has of one choice: its text, in how many pieces, its usage once it ended."""

    text: str
    pieces: int
    usage: Usage | None = None


class Position(msgspec.Struct, array_like=True, frozen=True, tag_field="item", tag=1):
    """Answer to Where: the next index wanted and how far each choice got.

    `broken` says that something was delivered that has no text to go on from.
    """

    job: str
    attempt: int
    index: int
    choices: dict[int, Progress]
    broken: bool = False


class Resend(msgspec.Struct, array_like=True, frozen=True, tag_field="item", tag=2):
    """Send everything of this gateway's open replies again; something was lost on the way."""

    gateway: str


What = Literal["load", "unload", "pin", "unpin"]


class Order(msgspec.Struct, array_like=True, frozen=True, tag_field="item", tag=3):
    """An administrator wants something done with a model; the answer goes to keys.order(id)."""

    id: str
    what: What
    model: str
    """A base model."""
    adapter: Adapter | None = None
    """load: one of its adapters, which is wanted beside it."""


class Ordered(msgspec.Struct, array_like=True, frozen=True):
    """The answer to an Order: how the model stands at `at_ms`, the worker's epoch milliseconds, and
    how it stood `before`, or why the order cannot be obeyed.
    """

    at_ms: int
    report: ModelReport | None = None
    failed: Failed | None = None
    before: ModelReport | None = None


Control = Cancel | Position | Resend | Order

encode = msgspec.msgpack.Encoder().encode
decode_batch = msgspec.msgpack.Decoder(Batch).decode
decode_ordered = msgspec.msgpack.Decoder(Ordered).decode
decode_control = msgspec.msgpack.Decoder(Control).decode
