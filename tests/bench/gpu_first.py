"""The first token of an engine, timed."""

from __future__ import annotations

import time

from shared.wire.event import Usage
from worker.engines.base import Engine, Generation, Pausable

QUESTION = {"messages": [{"role": "user", "content": "Count to ten."}], "max_tokens": 16}


class First:
    """A sink that remembers when the first piece came."""

    def __init__(self) -> None:
        self.at: float | None = None

    def attach(self, source: Pausable) -> None:
        return

    def text(self, text: str) -> None:
        self.at = self.at or time.monotonic()

    def delta(self, raw: str | None, delta: bytes, logprobs: bytes) -> None:
        self.at = self.at or time.monotonic()

    def count(self, usage: Usage) -> None:
        return

    def finish(self, reason: str) -> None:
        self.at = self.at or time.monotonic()


async def first_token(engine: Engine, adapter: str | None = None) -> float:
    sink, begun = First(), time.monotonic()
    asked = Generation(kind="chat", body=dict(QUESTION), adapter=adapter)
    await engine.generate(asked, sink)
    assert sink.at is not None
    return sink.at - begun
