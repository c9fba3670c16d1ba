"""Generating anew what an engine cannot go on behind: what was given before is dropped. Pure.

An answer that is held to a grammar begins at the grammar's beginning, so an engine that holds no
place in it must generate the whole answer again.
"""

from __future__ import annotations

from shared.errors import EngineFailed
from shared.wire.event import Usage
from worker.engines.base import Pausable, Sink
from worker.engines.toolcalls import CallReader, CallsDelta


def diverged() -> EngineFailed:
    return EngineFailed(
        "The engine was lost in the middle of a structured answer, and its second attempt took"
        " another turn. A seed, or temperature 0, makes attempts equal."
    )


class Prefix:
    """The text that was given before."""

    def __init__(self, text: str = "") -> None:
        self._rest = text

    @property
    def open(self) -> bool:
        """Whether not all of it was generated again yet."""
        return bool(self._rest)

    def expect(self, text: str) -> None:
        self._rest = text

    def strip(self, text: str) -> str:
        """What of `text` is new; raises EngineFailed when it differs from what was given."""
        if not self._rest:
            return text
        both = min(len(text), len(self._rest))
        if text[:both] != self._rest[:both]:
            raise diverged()
        self._rest = self._rest[both:]
        return text[both:]


class ReplaySink:
    """Gives `sink` what comes behind `prefix`."""

    def __init__(self, sink: Sink, prefix: Prefix) -> None:
        self._sink = sink
        self._prefix = prefix

    def attach(self, source: Pausable) -> None:
        self._sink.attach(source)

    def text(self, text: str) -> None:
        new = self._prefix.strip(text)
        if new:
            self._sink.text(new)

    def delta(self, raw: str | None, delta: bytes, logprobs: bytes) -> None:
        if not self._prefix.open:
            self._sink.delta(raw, delta, logprobs)
        elif raw is None or self._prefix.strip(raw):
            # A token that was half given has no half of a log-probability.
            raise diverged()

    def count(self, usage: Usage) -> None:
        self._sink.count(usage)

    def finish(self, reason: str) -> None:
        if self._prefix.open:
            raise diverged()
        self._sink.finish(reason)


class ReplayCalls(CallReader):
    """Reads a call whose beginning was given before."""

    def __init__(self, prefix: Prefix) -> None:
        super().__init__()
        self._prefix = prefix

    def feed(self, text: str) -> list[tuple[str, CallsDelta]]:
        return super().feed(self._prefix.strip(text))


def calls_behind(given: str) -> CallReader:
    """A reader of a call's text from its beginning, which gives what comes behind `given`."""
    prefix = Prefix()
    reader = ReplayCalls(prefix)
    reader.skip(given)
    prefix.expect(given)
    return reader
