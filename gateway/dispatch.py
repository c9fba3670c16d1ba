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

from gateway.calls import Calls
from gateway.line import Line
from gateway.offers import Offers
from gateway.orders import Orders
from gateway.prices import Prices
from gateway.record import Record
from gateway.recovery import Recovery
from gateway.reply import Reply
from gateway.reservations import Reservation, Reservations
from gateway.sightings import Sightings
from gateway.spending import Spending
from gateway.use import unclaimed
from gateway.waiting import retry_after
from shared import holds, ids, keys, log, queue
from shared.catalog import Catalog, Entry
from shared.clock import Clock, SystemClock
from shared.db import Pool
from shared.errors import (
    BudgetExhausted,
    ClientClosed,
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
from shared.wire.event import Batch, Cancel, Position, Resend, Where
from shared.wire.node import ModelState, WorkerState
from shared.wire.task import Class, Kind, Origin, Task

ELSEWHERE = ("openai", "ollama")
"""Engines whose models' files are not a worker's."""
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
        self._reader = ReplyReader(settings.redis, self.name, self._take)
        self._replies: dict[int, Reply] = {}
        self._streams = 0
        self._stopping = False
        self._hurried = False
        self._idle = asyncio.Event()
        self._offers = Offers(catalog, self._replies, self._clock)
        self._sightings = Sightings(self._link, self._clock, self._offers.take)
        self._calls = Calls(self._sightings, self._clock)
        self.orders = Orders(self._link, self._sightings, self._clock)
        self._recovery = Recovery(
            self._link,
            self._replies,
            self._sightings,
            self._calls,
            self._place,
            settings.request_timeout,
            self._clock,
        )
        self._line = Line(self._link, self._replies, self._sightings, self._clock)
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Returns when requests can be opened; raises Lost when Redis is away."""
        await self._link.start()
        await self._link.wait_open(10)
        await self._reader.start()
        await self._sightings.look()
        self.record.start()
        self._tasks = [
            asyncio.create_task(self._tick(), name="tick"),
            asyncio.create_task(self._watch(), name="watch"),
            asyncio.create_task(self._sweep(), name="sweep"),
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
        if self._closing:
            await asyncio.wait(self._closing, timeout=1)
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
        if self._stopping:
            raise ShuttingDown("The hub is shutting down.", retry_after=1)
        lane = entry.model.lane
        self._refuse_unserved(entry)
        self._streams += 1
        timeout = int(self._settings.request_timeout * 1000)
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
            self._clock.wall_ms() + timeout,
            entry.adapter,
            origin,
            reservation.price if reservation is not None else None,
            reservation.packed if reservation is not None else b"",
            reservation.most if reservation is not None else 0,
        )
        reply = Reply(task, lane, self._clock.now(), self.close)
        self._replies[task.stream] = reply
        placed = await self._let_in(reply, reservation)
        if placed.state == "full":
            self._forget(reply)
            raise QueueFull(
                f"{placed.waiting} requests already wait for {entry.name!r},"
                f" which is the limit. Try again later.",
                retry_after=self._retry_after(entry, placed.waiting),
            )
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
        abort = asyncio.ensure_future(self._abort(reply))
        self._closing.add(abort)
        abort.add_done_callback(self._closing.discard)

    def workers(self) -> list[WorkerState]:
        """The workers whose heartbeat is fresh."""
        return self._sightings.workers()

    def missing(self) -> dict[str, str]:
        """What stands between this gateway and an answer, by name; empty when ready."""
        missing = {}
        if not self._link.is_open or not self._reader.ready.is_set():
            missing["redis"] = "no connection"
        if self._stopping:
            missing["gateway"] = "shutting down"
        return missing | self._sightings.missing(self._catalog)

    def states(self) -> Mapping[str, ModelState]:
        """How each model stands where it stands best."""
        return self._sightings.states()

    def files(self, entry: Entry) -> str | None:
        """Names the files that a model answers from; None: not known, or workers' files differ.

        Empty for one that an upstream has.
        """
        if entry.model.engine in ELSEWHERE:
            return ""
        told = {
            report.files
            for worker in self._sightings.lane(entry.model.lane)
            if (report := worker.models.get(entry.base)) is not None
        }
        return (told.pop() or None) if len(told) == 1 else None

    def failed(self) -> list[str]:
        """Models whose engines do not start; the others are served all the same."""
        return sorted(name for name, state in self.states().items() if state == "failed")

    def _forget(self, reply: Reply) -> bool:
        known = self._replies.pop(reply.task.stream, None) is not None
        if not self._replies:
            self._idle.set()
        return known

    def _refuse_unserved(self, entry: Entry) -> None:
        if self._sightings.gone(entry.model.lane) or self._offers.unserved(entry):
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
        placed = await self._calls.find(reply.lane, reply.task.model)
        reply.worker = placed.worker if placed is not None else None
        reply.called = self._clock.now()
        return await queue.enqueue(
            self._link,
            reply.task,
            reply.worker,
            self._settings.queue_limit if attempt is None else queue.NO_LIMIT,
            self._clock.wall_ms(),
            attempt,
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

    async def _abort(self, reply: Reply) -> None:
        task, origin = reply.task, reply.task.origin
        ended = reply.failed or ClientClosed("The client left.").failed()
        used = None
        if origin is not None:
            wall_ms, got = self._clock.wall_ms(), reply.progress().values()
            used = unclaimed(task, origin, ended.status, ended.code, wall_ms, got)
        try:
            there = await queue.abort(self._link, keys.queue(task.model), task.id, used)
            if not there and used is not None:
                # It is lost, or just ended: then its event is written already and this one not.
                self.record.add(used)
        except (Lost, hiredis.HiredisError) as error:
            # The worker notices by itself: nobody asks for this reply's items any more.
            logger.warning("cancel not delivered", job=reply.task.id, error=str(error))

    def _take(self, batch: Batch) -> None:
        now = self._clock.now()
        replies = self._replies
        for entry in batch.entries:
            reply = replies.get(entry.stream)
            if reply is None:
                continue
            if isinstance(entry.item, Where):
                self._tell_position(reply, batch.worker, entry.attempt)
            elif not reply.take(batch.worker, entry, now) and now - reply.asked > 1:
                reply.asked = now
                queue.tell(self._link, batch.worker, Resend(self.name))

    def _tell_position(self, reply: Reply, worker: str, attempt: int) -> None:
        if not reply.follow(worker, attempt):
            queue.tell(self._link, worker, Cancel(reply.task.id))
            return
        reply.heard = self._clock.now()
        queue.tell(
            self._link,
            worker,
            Position(
                reply.task.id,
                attempt,
                reply.next,
                reply.progress(),
                reply.broken,
            ),
        )

    def _retry_after(self, entry: Entry, waiting: int) -> float:
        return retry_after(self._line.outlook(entry.model.lane, entry.base, None), waiting)

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

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(holds.SWEEP_SECONDS)
            try:
                released = await holds.sweep(self._link)
            except (Lost, hiredis.HiredisError) as error:
                logger.warning("cannot sweep", error=str(error))
            else:
                if released:
                    logger.info("holds of jobs that are gone were released", count=released)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1)
            try:
                await self._sightings.look()
                self._calls.turn()
                await self._recovery.look()
                await self._line.look()
            except (Lost, hiredis.HiredisError) as error:
                logger.warning("cannot watch", error=str(error))
            except Exception:
                logger.exception("watch broke")
