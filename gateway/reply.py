"""One request's reply: its items in order, each once, whoever produced them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.waiting import Waiting
from shared.errors import HubError
from shared.wire.event import (
    LAST,
    Delta,
    Entry,
    Failed,
    Finish,
    Item,
    Progress,
    Started,
    Text,
    Usage,
)
from shared.wire.task import Task

LARGEST_BACKLOG = 16_384
"""Items a client may be behind before its reply is ended."""


class Reply:
    """Filled by Dispatch, emptied by one route. `close` must be called however it ends."""

    def __init__(
        self, task: Task, lane: str, now: float, on_close: Callable[[Reply], None]
    ) -> None:
        self.task = task
        self.lane = lane
        self.worker: str | None = None
        """The worker called for it last; None: there was none. It may be another that answers."""
        self.called = now
        self.first: str | None = None
        """The worker called for it first."""
        self.placed = 0
        """How many waited before it when it was queued."""
        self.ahead: int | None = 0
        """How many did when its place was looked up last, at `looked`; None: it is being taken."""
        self.looked = float("-inf")
        self.waiting: Waiting | None = None
        """What it can expect, once it has waited for a while and as long as it waits."""
        self.expected: float | None = None
        """Seconds of its whole wait, as expected when it had waited for a while."""
        self.started: float | None = None
        """When its first item came."""
        self.loaded = 0.0
        """Seconds of its wait until the model was ready."""
        self.opened = now
        self.heard = now
        self.next = 0
        self.producer: tuple[str, int] | None = None
        self.texts: dict[int, list[str]] = {}
        self.finished: dict[int, Usage] = {}
        self.broken = False
        self.queued = False
        """Its job waits where a worker finds it, or was taken already."""
        self.ended = False
        """The last item was delivered."""
        self.job_over = False
        """…and it came from the worker: there is nothing left to cancel."""
        self.failed: Failed | None = None
        """…or an error of the gateway's own ended it."""
        self.asked = float("-inf")
        self.vanished = 0
        self.requeues = 0
        self._on_close = on_close
        self._items: list[Item] = []
        self._patience = 0.0
        self._waiter: asyncio.Future[None] | None = None

    async def items(self, timeout: float) -> list[Item]:
        """Everything that arrived since the last call, at least one item; [] after `timeout` s.

        The time is looked at once a second, by `tick`: a timer of its own would cost each chunk
        more than its JSON. The last item of a reply is Done, Failed, Answer or Vectors.
        """
        if not self._items:
            loop = asyncio.get_running_loop()
            self._patience = loop.time() + timeout
            self._waiter = loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        items, self._items = self._items, []
        return items

    def tick(self, now: float) -> None:
        """Ends a wait whose time, on the event loop's clock, is over."""
        if now >= self._patience:
            self._wake()

    def close(self) -> None:
        """Ends the caller's interest; a job that still runs is cancelled. Idempotent."""
        self._on_close(self)

    def take(self, worker: str, entry: Entry, now: float) -> bool:
        """Accepts the next item of the current producer; drops repeats and strangers.

        False when items before this one are missing.
        """
        producer = (worker, entry.attempt)
        if self.producer is None and entry.attempt == 1:
            self.producer = producer
        if producer != self.producer or self.ended:
            return True
        self.heard = now
        if entry.index != self.next:
            return entry.index < self.next
        if self.next == 0:
            self._begin(entry.item, now)
        self.next += 1
        if self.task.streamed:
            self._remember(entry.item)
        self.job_over = isinstance(entry.item, LAST)
        self._deliver(entry.item)
        return True

    def follow(self, worker: str, attempt: int) -> bool:
        """Listens to a later attempt from now on; False when this one is not the latest."""
        if self.ended or (self.producer is not None and attempt < self.producer[1]):
            return False
        self.producer = (worker, attempt)
        return True

    def progress(self) -> dict[int, Progress]:
        """What later attempts continue from."""
        return {
            choice: Progress("".join(texts), len(texts), self.finished.get(choice))
            for choice, texts in self.texts.items()
        }

    def fail(self, failed: Failed) -> None:
        """Ends the reply with an error of our own."""
        if not self.ended:
            self.failed = failed
            self._deliver(failed)

    def _begin(self, first: Item, now: float) -> None:
        self.started = now
        self.waiting = None
        if isinstance(first, Started) and first.ready is not None:
            self.loaded = max(0.0, now - self.opened - first.ready)

    def _remember(self, item: Item) -> None:
        if isinstance(item, Text):
            self.texts.setdefault(item.choice, []).append(item.text)
        elif isinstance(item, Delta):
            self.broken = self.broken or item.raw is None
            self.texts.setdefault(item.choice, []).append(item.raw or "")
        elif isinstance(item, Finish):
            self.texts.setdefault(item.choice, [])
            self.finished[item.choice] = item.usage

    def _deliver(self, item: Item) -> None:
        if len(self._items) >= LARGEST_BACKLOG:
            self.job_over = False
            self._items.clear()
            item = HubError("The client reads too slowly; the reply was ended.").failed()
        self._items.append(item)
        if isinstance(item, LAST):
            self.ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
