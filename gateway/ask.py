"""One request for an answer, as its route read it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from gateway.sse import Chunks
from gateway.worst import Worst
from shared.catalog import Entry
from shared.wire.event import Answer, Vectors
from shared.wire.task import Class, Kind


class Ask(NamedTuple):
    """`body` is the client's JSON as it came, `temperature` what it says of that."""

    kind: Kind
    entry: Entry
    body: bytes
    service: Class
    fingerprint: str
    worst: Worst
    streamed: bool = False
    temperature: float | None = None


class Form(ABC):
    """How one reply is written. `created` is when its content was, in epoch seconds."""

    @abstractmethod
    def whole(self, answer: Answer | Vectors, created: int) -> bytes:
        """The reply in one piece."""


class StreamForm(Form):
    """How one is written that may be asked for as a stream."""

    @abstractmethod
    def chunks(self, created: int) -> Chunks:
        """The reply as a stream."""
