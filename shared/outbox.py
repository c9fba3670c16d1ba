"""What a worker has for one gateway: what is to be sent, and what can be sent again."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from shared import keys
from shared.wire.event import Batch, Entry, encode

BATCH = 512
"""Entries of one XADD."""
BATCH_BYTES = 8 * 1024 * 1024
"""Bytes of one XADD of more than one entry; a server refuses more than 512 MB."""
KEPT_REPLIES = 1024
"""Ended replies kept per gateway."""
KEPT_BYTES = 64 * 1024 * 1024
"""…and what they may take, roughly."""
ENTRY_BYTES = 256
"""What an entry takes beside its content."""


class Ended(NamedTuple):
    """A reply that was sent to its end; `at` in seconds of the clock."""

    at: float
    size: int
    entries: list[Entry]


class Outbox:
    """What one worker has for one gateway."""

    def __init__(self, gateway: str) -> None:
        self.gateway = gateway
        self.key = keys.reply(gateway)
        self.pending: list[Entry] = []
        self.open: dict[int, list[Entry]] = {}
        self.ended: dict[int, Ended] = {}
        self.kept = 0
        """Bytes of what has ended."""
        self.sending = False
        """A flush is due, or its XADD is under way."""
        self.timer: asyncio.TimerHandle | None = None
        """…and this is when, if it is not at once."""
        self.patient = False
        """…for which nothing but a Started waits."""
        self.urgent = False
        self.flushed = 0.0
        self.stale = False
        self.missing_since: float | None = None
        self.paused = False
        self.batches = 0

    def end(self, stream: int, now: float) -> None:
        entries = self.open.pop(stream)
        size = len(encode(entries)) + ENTRY_BYTES * len(entries)
        self.drop(stream)
        self.ended[stream] = Ended(now, size, entries)
        self.kept += size
        while len(self.ended) > KEPT_REPLIES or (self.kept > KEPT_BYTES and len(self.ended) > 1):
            self.drop(next(iter(self.ended)))

    def drop(self, stream: int) -> None:
        """Forgets an ended reply."""
        ended = self.ended.pop(stream, None)
        if ended is not None:
            self.kept -= ended.size

    def clear(self) -> None:
        """Forgets everything but that nobody reads it."""
        self.pending = []
        self.open.clear()
        self.ended.clear()
        self.kept = 0
        self.sending = self.stale = False

    @property
    def crowded(self) -> bool:
        """Whether more is pending than one XADD may hold."""
        return len(self.pending) > BATCH

    def next_batch(self, worker: str) -> bytes:
        """Takes from what is pending as much as one XADD may hold, encoded."""
        entries = self.pending[:BATCH]
        data = encode(Batch(worker, entries))
        while len(data) > BATCH_BYTES and len(entries) > 1:
            entries = entries[: len(entries) // 2]
            data = encode(Batch(worker, entries))
        self.pending = self.pending[len(entries) :]
        return data

    def rewind(self) -> None:
        """Everything that can still be sent again is pending again."""
        self.pending = [
            entry
            for entries in (*(ended.entries for ended in self.ended.values()), *self.open.values())
            for entry in entries
        ]
        self.stale = False
