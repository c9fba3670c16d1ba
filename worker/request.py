"""One job while it runs: its choices, what they produced so far, and the items that go back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Literal

from shared import log
from shared.clock import Clock
from shared.ending import last_words
from shared.errors import ClientClosed, EngineFailed, HubError, RequestTimeout, UnsupportedValue
from shared.queue import Claimed
from shared.replies import ReplyWriter
from shared.wire.event import (
    LAST,
    Entry,
    Failed,
    Item,
    Position,
    Started,
    Usage,
    Where,
)
from shared.wire.usage import UsageEvent
from worker.adapter_lease import Lease
from worker.engines.base import Engine, Pausable
from worker.loop import Loop
from worker.meter import Known, Meter
from worker.places import Grant, PassedOn

ASK_AGAIN = 1.0
"""Seconds until a question is repeated: it or its answer went down with a connection."""
WAIT_FOR_POSITION = 5
"""Times a later attempt asks how far the reply got; silence means nobody wants it."""

LEFT = ClientClosed("The client left.").failed()

Reason = Literal["cancelled", "lost", "released"]
logger = log.get("request")


class Request:
    """Owned by Lane; run by one of worker.functions."""

    def __init__(
        self,
        claimed: Claimed,
        worker: str,
        writer: ReplyWriter,
        loop: Loop,
        grant: Grant,
        clock: Clock,
        meter: Meter,
    ) -> None:
        self.claimed = claimed
        self.meter = meter
        self.refusal: HubError | None = None
        """Why it is not run at all."""
        self.keep_alive: float | None = None
        """Seconds the model is to stay loaded after this request, if it says so."""
        self.task: asyncio.Task[None] | None = None
        self.reason: Reason | None = None
        self.passed_to: str | None = None
        """The worker that is called for it when it is released."""
        self.over = False
        self.blind = False
        """It is a later attempt that was not told how far the reply got."""
        self.failed: Failed | None = None
        """The error it ended in."""
        self._loop = loop
        self._grant = grant
        self._lease: Lease | None = None
        self._return: asyncio.Task[Engine] | None = None
        self._writer = writer
        self._clock = clock
        self._worker = worker
        self._index = 0
        self._sources: set[Pausable] = set()
        self._flows = True
        self._position: asyncio.Future[Position] = asyncio.get_running_loop().create_future()

    @property
    def streamed(self) -> bool:
        return self.claimed.task.streamed

    @property
    def defaults(self) -> dict[str, float | int]:
        """Request parameters of the model for callers who give none."""
        return self._loop.resident(self.claimed.task.model).defaults

    @property
    def adapter(self) -> str | None:
        """What its engine knows the adapter by that was asked for."""
        adapter = self.claimed.task.adapter
        return adapter.name if adapter is not None else None

    @property
    def suspects(self) -> asyncio.Lock:
        """Held by the one request that may find out whether it was what broke the engine."""
        return self._loop.resident(self.claimed.task.model).suspects

    async def engine(self) -> Engine:
        """The engine to ask; when it died, its next run. All choices wait in line as one.

        Raises ModelUnavailable when the model does not come back.
        """
        if self._return is None:
            self._return = asyncio.create_task(self._sit())
        returning = self._return
        try:
            engine = await asyncio.shield(returning)
        finally:
            if returning.done() and self._return is returning:
                self._return = None
        return engine

    async def _sit(self) -> Engine:
        """A place in the engine, with a lease of the adapter that was asked for.

        While the adapter is loaded the place is somebody else's.
        """
        task, loop = self.claimed.task, self._loop
        self._grant, engine = await loop.engine(self._grant, task.service)
        if task.adapter is None:
            return engine
        adapters = loop.adapters.get(task.model)
        if adapters is None:
            raise UnsupportedValue("The engine of this model takes no adapters.", param="model")
        while self._lease is None or not self._lease.valid:
            self._lease = adapters.take(task.adapter)
            if self._lease is None:
                self._grant = loop.park(self._grant)
                try:
                    self._lease = await adapters.wait(task.adapter)
                except BaseException:
                    loop.unpark(task.model)
                    raise
                self._grant, engine = await loop.resume(task.model, task.service)
        return engine

    async def leave(self) -> None:
        """Gives its place in the engine, or in line for it, to the next."""
        if self._return is not None:
            self._return.cancel()
            await asyncio.gather(self._return, return_exceptions=True)
        if self._lease is not None:
            self._lease.release()
        answered = self.reason is None or self.over
        self._loop.end(self._grant, self.keep_alive, answered=answered)

    def begin(self) -> None:
        """Sends the first item of the reply."""
        ready = self._loop.ready_for(self.claimed.task.model)
        self.emit(Started(self._clock.now(), ready))

    def emit(self, item: Item) -> None:
        """Sends the next item of the reply."""
        task = self.claimed.task
        entry = Entry(task.stream, self.claimed.attempt, self._index, item)
        self._index += 1
        self.over = isinstance(item, LAST)
        if isinstance(item, Failed):
            self.failed = item
        self._writer.put(task.gateway, entry)

    def used(self) -> UsageEvent | None:
        """Its line in the ledger, once it has ended; None: it is nobody's, or goes on elsewhere."""
        ended = self.failed
        if not self.over:
            if self.reason != "cancelled":
                return None
            ended = LEFT
        return self.meter.event(ended)

    def last_words(self) -> bytes:
        """What it used so far, for when this worker dies; empty: it is nobody's use."""
        used = self.meter.event(LEFT)
        return b"" if used is None else last_words(used)

    def stop(self, reason: Reason) -> None:
        """Ends the run from outside, begun or not; the first reason given stands."""
        if self.reason is None:
            self.reason = reason
            if self.task is not None:
                self.task.cancel()

    def set_flow(self, flows: bool) -> None:
        """Holds the engine's output back while the gateway is behind."""
        self._flows = flows
        for source in self._sources:
            if flows:
                source.resume_reading()
            else:
                source.pause_reading()

    def attach(self, source: Pausable) -> None:
        self._sources.add(source)
        if not self._flows:
            source.pause_reading()

    def detach(self, source: Pausable) -> None:
        self._sources.discard(source)

    def tell_position(self, position: Position) -> None:
        if position.attempt == self.claimed.attempt and not self._position.done():
            self._position.set_result(position)

    async def position(self) -> Position:
        """How far the reply got in earlier attempts; raises CancelledError when nobody waits."""
        task = self.claimed.task
        if self.claimed.attempt == 1:
            return Position(task.id, 1, 0, {})
        self.blind = True
        where = Entry(task.stream, self.claimed.attempt, -1, Where())
        for _ in range(WAIT_FOR_POSITION):
            self._writer.put(task.gateway, where)
            done, _ = await asyncio.wait([self._position], timeout=ASK_AGAIN)
            if done:
                position = self._position.result()
                self.blind = False
                self._index = position.index
                return position
        logger.info("nobody waits for this job", job=task.id)
        self.reason = self.reason or "cancelled"
        raise asyncio.CancelledError

    async def give_up(self) -> None:
        """Ends a job that was tried too often."""
        position = await self.position()
        self.meter.count(got(position))
        tries = self.claimed.attempt - 1
        self.emit(EngineFailed(f"The request failed {tries} times; giving up.").failed())

    async def answer(self, work: Coroutine[Any, Any, None]) -> None:
        """Awaits `work` within the deadline and turns every error into the reply's last item.

        A run that was stopped says nothing: what breaks while it ends is not the caller's error.
        """
        task = self.claimed.task
        left = (task.deadline_ms - self._clock.wall_ms()) / 1000
        try:
            async with asyncio.timeout(max(0.0, left)):
                await work
        except TimeoutError:
            self._fail(RequestTimeout("The request took longer than allowed."))
        except HubError as error:
            self._fail(error)
        except PassedOn as passed:
            if self.reason is None:
                self.reason, self.passed_to = "released", passed.worker
        except Exception as error:
            logger.exception("request failed", job=task.id)
            self._fail(EngineFailed(f"Internal error: {type(error).__name__}."))

    def _fail(self, error: HubError) -> None:
        if self.reason is None:
            self.emit(error.failed())


def got(position: Position) -> list[Known]:
    """What the caller of earlier attempts has, a token for each piece that is not counted."""
    return [
        Known(progress.usage or Usage(completion=progress.pieces))
        for progress in position.choices.values()
    ]
