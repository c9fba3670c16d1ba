"""The one path of a request: task out, reply items back, cancel, and what to do when either stalls.

Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from functools import partial

import hiredis
import psycopg

from gateway.aborts import Aborts
from gateway.calls import Calls
from gateway.inbox import Inbox
from gateway.line import Line
from gateway.offers import Offers
from gateway.orders import Orders
from gateway.prices import Prices
from gateway.record import Record
from gateway.recovery import Recovery
from gateway.reply import Reply
from gateway.reservations import FREE, Reservation, Reservations
from gateway.sightings import Sightings
from gateway.spending import Spending
from gateway.waiting import retry_after
from shared import ids, log, queue
from shared.catalog import Catalog, Entry
from shared.clock import Clock, SystemClock
from shared.db import Pool
from shared.errors import (
    BudgetExhausted,
    ModelUnavailable,
    QueueFull,
    QueueUnavailable,
    RateLimited,
    ShuttingDown,
)
from shared.replies import ReplyReader
from shared.resp import Link, Lost
from shared.settings import Settings
from shared.store import price
from shared.wire.account import Price
from shared.wire.task import Class, Kind, Origin, Task

WAIT_FOR_REDIS = 5.0
"""Seconds a request waits for a Redis that is being restarted."""
logger = log.get("dispatch")


def no_database() -> Pool:
    raise psycopg.OperationalError("no database")


class Dispatch:
    """One per gateway process."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        clock: Clock | None = None,
        pool: Callable[[], Pool] = no_database,
    ) -> None:
        self.name = ids.process("gw")
        self._settings = settings
        self._catalog = catalog
        self._clock = clock or SystemClock()
        self._link = Link(settings.redis, "dispatch")
        self.record = Record(self._link)
        self._pool = pool
        self.prices = Prices(self._load_prices, self._clock)
        self.spending = Spending(self._link, pool, settings.request_timeout)
        self.reservations = Reservations(
            self._link, self.prices, self.spending, settings.request_timeout, self._clock
        )
        self._replies: dict[int, Reply] = {}
        inbox = Inbox(self.name, self._link, self._replies, self._clock)
        self._reader = ReplyReader(settings.redis, self.name, inbox.take)
        self._streams = 0
        self._stopping = False
        self._hurried = False
        self._idle = asyncio.Event()
        self._offers = Offers(catalog, self._replies, self._clock)
        self.sightings = Sightings(self._link, self._clock, self._offers.take)
        self._calls = Calls(self.sightings, self._clock)
        self.orders = Orders(self._link, self.sightings, self._clock)
        self._recovery = Recovery(
            self._link,
            self._replies,
            self.sightings,
            self._calls,
            self._place,
            settings.request_timeout,
            self._clock,
        )
        self._line = Line(self._link, self._replies, self.sightings, self._clock)
        self._tasks: list[asyncio.Task[None]] = []
        self._aborts = Aborts(self._link, self.record, self._clock)

    async def start(self) -> None:
        """Returns when requests can be opened; raises Lost when Redis is away."""
        await self._link.start()
        await self._link.wait_open(10)
        await self._reader.start()
        await self.sightings.look()
        self.record.start()
        self._tasks = [
            asyncio.create_task(self._tick(), name="tick"),
            asyncio.create_task(self._watch(), name="watch"),
            asyncio.create_task(self.sightings.meet(self._catalog), name="meet"),
            asyncio.create_task(self.reservations.sweep(), name="sweep"),
        ]

    async def stop(self) -> None:
        """Refuses new requests, lets open ones finish within the drain time, fails the rest."""
        self._stopping = True
        if self._replies and not self._hurried:
            self._idle.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.drain_timeout):
                    await self._idle.wait()
        for reply in list(self._replies.values()):
            reply.fail(ShuttingDown("The hub is shutting down.").failed())
            self.close(reply)
        await self._aborts.drain(1)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._reader.stop(self._link)
        await self.record.stop()
        await self._link.stop()

    def hurry(self) -> None:
        """Ends a drain that is under way: what is still open fails now."""
        self._hurried = True
        self._idle.set()

    @property
    def open_replies(self) -> int:
        return len(self._replies)

    async def open(
        self,
        kind: Kind,
        entry: Entry,
        body: bytes,
        *,
        key: str,
        streamed: bool,
        service: Class,
        origin: Origin | None = None,
        reservation: Reservation | None = None,
    ) -> Reply:
        """Queues one request; from then on whoever ends the job writes its use down.

        Raises QueueFull, QueueUnavailable, ShuttingDown or ModelUnavailable; and RateLimited,
        BudgetExhausted or Unavailable by what its caller may use.
        """
        await self._refuse_unserved(entry)
        if self._stopping:
            raise ShuttingDown("The hub is shutting down.", retry_after=1)
        self._streams += 1
        task = Task(
            ids.new("job-"),
            kind,
            entry.base,
            self.name,
            self._streams,
            streamed,
            body,
            key,
            service,
            self._clock.wall_ms() + int(self._settings.request_timeout * 1000),
            entry.adapter,
            origin,
            *(FREE if reservation is None else reservation.terms),
        )
        reply = Reply(task, entry.model.lane, self._clock.now(), self.close)
        self._replies[task.stream] = reply
        placed = await self._let_in(reply, reservation)
        if placed.state == "full":
            self._forget(reply)
            raise self._full(entry, placed.waiting)
        reply.placed = reply.ahead = placed.waiting
        reply.queued = True
        return reply

    def close(self, reply: Reply) -> None:
        """Forgets a reply; one that has not ended takes its job with it."""
        if not self._forget(reply):
            return
        if reply.job_over:
            return
        reply.ended = True
        self._aborts.begin(reply)

    def missing(self) -> dict[str, str]:
        """What stands between this gateway and an answer, by name; empty when ready."""
        missing = {}
        if not self._link.is_open or not self._reader.ready.is_set():
            missing["redis"] = "no connection"
        if self._stopping:
            missing["gateway"] = "shutting down"
        return missing | self.sightings.missing(self._catalog)

    def _forget(self, reply: Reply) -> bool:
        known = self._replies.pop(reply.task.stream, None) is not None
        if known and reply.first is not None:
            self._calls.closed(reply.first, reply.task.model)
        if not self._replies:
            self._idle.set()
        return known

    def _unserved(self, entry: Entry) -> bool:
        return self.sightings.gone(entry.model.lane) or self._offers.unserved(entry)

    async def _refuse_unserved(self, entry: Entry) -> None:
        """Looks once more before: a worker may have come since the last look."""
        if self._unserved(entry):
            await self.sightings.try_to_look()
        if self._unserved(entry):
            raise ModelUnavailable(
                f"No worker serves {entry.name!r} (lane {entry.model.lane!r}) right now.",
                param="model",
                retry_after=5,
            )

    async def _let_in(self, reply: Reply, reservation: Reservation | None) -> queue.Placed:
        try:
            return await self.reservations.place(reservation, partial(self._enqueue, reply))
        except (RateLimited, BudgetExhausted):
            self._forget(reply)
            raise
        except BaseException:
            self.close(reply)
            raise

    async def _place(self, reply: Reply, attempt: int | None) -> queue.Placed:
        model = reply.task.model
        placed = await self._calls.find(reply.lane, model)
        reply.worker = placed.worker if placed is not None else None
        reply.called = self._clock.now()
        hand = False
        if placed is not None and reply.first is None and attempt is None:
            hand = self._calls.may_hand(placed, model)
            reply.first = placed.worker
            self._calls.opened(placed.worker, model)
        return await queue.enqueue(
            self._link,
            reply.task,
            reply.worker,
            self._settings.queue_limit if attempt is None else queue.NO_LIMIT,
            self._clock.wall_ms(),
            attempt,
            hand=hand,
        )

    async def _enqueue(self, reply: Reply) -> queue.Placed:
        """Survives a Redis restart: a job that is queued already is recognised by its id."""
        end = self._clock.now() + WAIT_FOR_REDIS
        while True:
            try:
                return await self._place(reply, None)
            except (Lost, hiredis.HiredisError) as error:
                if reply.ended or reply.next:
                    # It ran while the answer to our call was lost.
                    return queue.Placed("known", 0)
                left = end - self._clock.now()
                if left <= 0:
                    raise QueueUnavailable(
                        f"The queue cannot be reached: {error}", retry_after=2
                    ) from error
                await asyncio.sleep(min(0.02, left))

    def _full(self, entry: Entry, waiting: int) -> QueueFull:
        outlook = self._line.outlook(entry.model.lane, entry.base, None)
        return QueueFull(
            f"{waiting} requests already wait for {entry.name!r}, which is the limit."
            " Try again later.",
            retry_after=retry_after(outlook, waiting),
        )

    async def _tick(self) -> None:
        """Time goes on for every reply, also while Redis does not answer."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1)
            now = loop.time()
            for reply in self._replies.values():
                reply.tick(now)

    async def _load_prices(self) -> Mapping[str, Price]:
        return await price.load(self._pool())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1)
            try:
                await self.sightings.look()
                self._calls.turn()
                await self._recovery.look()
                await self._line.look()
            except (Lost, hiredis.HiredisError) as error:
                logger.warning("cannot watch", error=str(error))
            except Exception:
                logger.exception("watch broke")
