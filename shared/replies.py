"""The way back: one Redis Stream per gateway, one batch per step of a worker.

The worker remembers what it sent for every open reply and for those that ended moments ago. After
a cut it sends all of that again; the gateway drops what it has by index. So a reply survives a
Redis that comes back empty.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import hiredis

from shared import keys, log
from shared.clock import Clock
from shared.outbox import Outbox
from shared.resp import Link, Lost
from shared.wire.event import LAST, Batch, Entry, decode_batch

STEP = 0.004
"""Seconds between two XADDs to one gateway, unless something urgent waits."""
PATIENCE = 0.05
"""Seconds a Started waits for the content behind it."""
RETRY = 0.05
"""Seconds until a batch that found no stream is tried again."""
GRACE = 3.0
"""Seconds without a reply stream after which its gateway is dead."""
REMEMBERED = 60.0
"""Seconds a dead gateway gets no second grace: each of its queued jobs would run that long."""
KEPT = 10.0
"""Seconds an ended reply can still be sent again."""
TRIM = 64
"""Batches read between two trims; there is one a second at least."""
LOOK = 64
"""Batches between two looks at how far the reader is behind."""
BEHIND = 2_000
CAUGHT_UP = 500

logger = log.get("replies")


class ReplyWriter:
    """A worker's side. `gone` is told of a dead gateway, `flow` of one that must be waited for."""

    def __init__(
        self,
        link: Link,
        worker: str,
        clock: Clock,
        gone: Callable[[str], None],
        flow: Callable[[str, bool], None],
    ) -> None:
        self._link = link
        self._worker = worker
        self._clock = clock
        self._gone = gone
        self._flow = flow
        self._outboxes: dict[str, Outbox] = {}
        self._idle = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def put(self, gateway: str, entry: Entry) -> None:
        """Sends an entry, in order: at once if it begins or ends a reply, else within STEP.

        Tokens of many streams then share one XADD, which is what makes the way back cheap.
        """
        outbox = self._outbox(gateway)
        if entry.index >= 0:
            outbox.open.setdefault(entry.stream, []).append(entry)
            last = isinstance(entry.item, LAST)
            if last:
                outbox.end(entry.stream, self._clock.now())
        else:
            last = False
        if outbox.stale:
            return
        outbox.pending.append(entry)
        self._schedule(outbox, entry.index == 1 or last, entry.index == 0)

    def forget(self, gateway: str, stream: int) -> None:
        """Drops a reply nobody waits for."""
        outbox = self._outboxes.get(gateway)
        if outbox is not None:
            outbox.open.pop(stream, None)

    def resend(self, gateway: str | None = None) -> None:
        """Sends again what was sent to one gateway, or to all of them."""
        for outbox in list(self._outboxes.values()):
            if gateway is None or outbox.gateway == gateway:
                outbox.stale = True
                self._schedule(outbox, True)

    def sweep(self) -> None:
        """Forgets old replies and idle gateways; to be called about once a second."""
        now = self._clock.now()
        for gateway, outbox in list(self._outboxes.items()):
            for stream, ended in list(outbox.ended.items()):
                if now - ended.at < KEPT:
                    break
                outbox.drop(stream)
            missing = outbox.missing_since
            if missing is not None and now - missing < REMEMBERED:
                continue
            if not outbox.open and not outbox.ended and not outbox.sending:
                del self._outboxes[gateway]

    def flows(self, gateway: str) -> bool:
        """Whether a new reply for this gateway may begin at full speed."""
        outbox = self._outboxes.get(gateway)
        return outbox is None or not outbox.paused

    async def drained(self, timeout: float) -> None:
        """Waits until everything was handed to Redis, at most `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while any(outbox.sending for outbox in self._outboxes.values()):
                    self._idle.clear()
                    await self._idle.wait()

    def _outbox(self, gateway: str) -> Outbox:
        outbox = self._outboxes.get(gateway)
        if outbox is None:
            outbox = self._outboxes[gateway] = Outbox(gateway)
        return outbox

    def _schedule(self, outbox: Outbox, urgent: bool, patient: bool = False) -> None:
        outbox.urgent = outbox.urgent or urgent
        if outbox.sending:
            if outbox.timer is None or not (urgent or (outbox.patient and not patient)):
                return
            outbox.timer.cancel()
            outbox.timer = None
        outbox.sending = True
        outbox.patient = patient
        now = self._loop.time()
        due = now + PATIENCE if patient else outbox.flushed + STEP
        if outbox.urgent or due <= now:
            self._loop.call_soon(self._flush, outbox)
        else:
            outbox.timer = self._loop.call_at(due, self._flush, outbox)

    def _flush(self, outbox: Outbox) -> None:
        outbox.timer = None
        outbox.flushed = self._loop.time()
        outbox.urgent = False
        if outbox.stale:
            outbox.rewind()
        if not outbox.pending:
            outbox.sending = False
            self._idle.set()
            return
        data = outbox.next_batch(self._worker)
        reply = self._link.call("XADD", outbox.key, "NOMKSTREAM", "*", "b", data)
        reply.add_done_callback(lambda done: self._sent(outbox, done))

    def _sent(self, outbox: Outbox, done: asyncio.Future[Any]) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if error is not None or done.result() is None:
            self._failed(outbox, error)
            return
        outbox.missing_since = None
        outbox.batches += 1
        if outbox.batches % LOOK == 0 and not outbox.paused:
            self._look(outbox)
        outbox.sending = False
        if outbox.pending or outbox.stale:
            self._schedule(outbox, outbox.crowded)
        else:
            self._idle.set()

    def _failed(self, outbox: Outbox, error: BaseException | None) -> None:
        outbox.stale = True
        outbox.pending = []
        if error is not None:
            outbox.missing_since = None
            if not isinstance(error, Lost):
                logger.error("redis refused a reply", gateway=outbox.gateway, error=str(error))
        else:
            now = self._clock.now()
            if outbox.missing_since is None:
                outbox.missing_since = now
            elif now - outbox.missing_since > GRACE:
                logger.warning("gateway is gone", gateway=outbox.gateway)
                outbox.clear()
                self._idle.set()
                self._gone(outbox.gateway)
                return
        self._loop.call_later(RETRY, self._flush, outbox)

    def _look(self, outbox: Outbox) -> None:
        reply = self._link.call("XLEN", outbox.key)
        reply.add_done_callback(lambda done: self._looked(outbox, done))

    def _looked(self, outbox: Outbox, done: asyncio.Future[Any]) -> None:
        length = 0 if done.cancelled() or done.exception() else done.result()
        if not outbox.paused and length > BEHIND:
            outbox.paused = True
            self._flow(outbox.gateway, False)
        elif outbox.paused and length < CAUGHT_UP:
            outbox.paused = False
            self._flow(outbox.gateway, True)
        if outbox.paused:
            self._loop.call_later(0.02, self._look, outbox)


class ReplyReader:
    """A gateway's side: keeps its stream alive, reads it, and trims what it has read."""

    def __init__(self, url: str, gateway: str, take: Callable[[Batch], None]) -> None:
        self._link = Link(url, "replies")
        self._key = keys.reply(gateway)
        self._take = take
        self._last = "0-0"
        self._untrimmed = 0
        self._task: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()

    async def start(self) -> None:
        """Returns when the stream exists; raises Lost when Redis is away."""
        await self._link.start()
        await self._link.wait_open(10)
        self._task = asyncio.create_task(self._read(), name="replies")
        async with asyncio.timeout(10):
            await self.ready.wait()

    async def stop(self, link: Link) -> None:
        """Removes the stream over another `link`: the own one may be blocked in a read."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._link.stop()
        await asyncio.wait([link.call("DEL", self._key)], timeout=1)

    async def _read(self) -> None:
        while True:
            try:
                await self._link.wait_open(60)
                await self._read_connected()
            except (Lost, hiredis.HiredisError) as error:
                self.ready.clear()
                logger.warning("reply stream interrupted", error=str(error))
                await asyncio.sleep(0.02)

    async def _read_connected(self) -> None:
        loop = asyncio.get_running_loop()
        kept_alive = float("-inf")
        while True:
            if loop.time() - kept_alive >= 1:
                await self._keep_alive()
                kept_alive = loop.time()
            found = await self._link.call(
                "XREAD", "COUNT", 256, "BLOCK", 1000, "STREAMS", self._key, self._last
            )
            if not found:
                continue
            for id_, fields in found[0][1]:
                self._last = id_.decode()
                if fields[0] == b"b":
                    self._accept(fields[1])
            self._untrimmed += len(found[0][1])
            if self._untrimmed >= TRIM:
                await self._trim()

    def _accept(self, data: bytes) -> None:
        """One batch that cannot be taken must not end the reading of all others."""
        try:
            self._take(decode_batch(data))
        except Exception:
            logger.exception("a batch could not be taken")

    def _trim(self) -> asyncio.Future[Any]:
        """Drops what was read. By id, since a MAXLEN would drop what was not."""
        milliseconds, _, number = self._last.partition("-")
        self._untrimmed = 0
        return self._link.call("XTRIM", self._key, "MINID", f"{milliseconds}-{int(number) + 1}")

    async def _keep_alive(self) -> None:
        """A stream that is not there is made; the workers then send again what it held."""
        await self._trim()
        if not await self._link.call("PEXPIRE", self._key, keys.REPLY_MS):
            hello = await self._link.call("XADD", self._key, "*", "h", "1")
            await self._link.call("PEXPIRE", self._key, keys.REPLY_MS)
            self._last = hello.decode()
        self.ready.set()
