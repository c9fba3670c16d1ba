"""An arq Worker whose hot path is leases: wake, claim, renew, finish, each one call.

Keys, job format and counters stay arq's; polling, claiming and running are replaced. The rest of
arq (cron, health key) runs from its own heart beat.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import hiredis
import redis
from arq.connections import create_pool
from arq.worker import Worker, func

from shared import holds, ids, keys, log, queue
from shared.catalog import Catalog
from shared.clock import Clock, SystemClock
from shared.errors import HubError
from shared.queue import Claimed
from shared.replies import ReplyWriter
from shared.resp import Link, Lost
from shared.settings import Settings
from shared.wire.event import Cancel, Control, Order, Position, Resend
from worker.arq_redis import arq_settings
from worker.batches import Batches
from worker.claims import Claims
from worker.custody import ALL, Custody, Share
from worker.effect import gone
from worker.functions import chat, completion, embedding, refuse
from worker.handed import Handed
from worker.leases import Leases
from worker.line import Lines
from worker.listening import Listening
from worker.loop import Loop
from worker.meter import Meter
from worker.order import Orders
from worker.places import NO_RUN, Grant
from worker.presence import Presence
from worker.report import Report
from worker.request import Request
from worker.runs import Runs
from worker.servers import Servers
from worker.settlement import settle
from worker.siblings import Siblings

STOP_SECONDS = 3.0

Step = Callable[[], Coroutine[Any, Any, None]]

logger = log.get("lane")


class Lane(Worker):
    """One per process; `await lane.main()` returns after `stop`."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        loop: Loop,
        report: Report,
        clock: Clock | None = None,
        share: Share = ALL,
        servers: Servers | None = None,
    ) -> None:
        self.name = ids.process("wk")
        self.lane = settings.lane
        self._clock = clock or SystemClock()
        entries = catalog.lane(self.lane)
        super().__init__(
            functions=[func(f, name=f.__name__) for f in (chat, completion, embedding)],
            queue_name=keys.queue(self.lane),
            redis_settings=arq_settings(settings.redis),
            job_serializer=queue.serialize,
            job_deserializer=queue.deserialize,
            max_jobs=max(1, sum(entry.model.parallel for entry in entries)),
            health_check_interval=5,
            handle_signals=False,
        )
        self._loop = loop
        self._report = report
        self._link = Link(settings.redis, "commands", self._reconnected)
        self._running = Runs(self._link, self.name)
        self._writer = ReplyWriter(
            self._link, self.name, self._clock, self._running.cancel, self._running.set_flow
        )
        self._batches = Batches(
            loop.residents, loop.device.kind == "cuda", report.sample, self._clock
        )
        models = [entry.name for entry in entries]
        self._lines = Lines(self._link, loop, models, self._clock)
        siblings = Siblings(self._link, self.name, self.lane, self._tell, self._clock)
        self._handed = Handed(
            self._link, self.name, self._lines, self._running.__contains__, self._begin, self._drop
        )
        self._claims = Claims(
            self._link, self.name, loop, self._lines, self._handed, siblings, self._begin
        )
        self._listening = Listening(
            settings.redis, self.name, self._obey, self._lines.arrived, self._handed.receive
        )
        self._stop = asyncio.Event()
        self._presence = Presence(self._link, self.name, self.lane, self._clock)
        self._custody = Custody(self._link, self.name, self.lane, entries, loop, share, self._clock)
        self._orders = Orders(self._link, loop, report, self._clock)
        self._servers = servers
        self._leases = Leases(self._link, loop, self._clock)

    def request_stop(self) -> None:
        """Hands running jobs back to the queue and makes `main` return."""
        self._stop.set()

    async def main(self) -> None:
        await self._link.start()
        await self._listening.start()
        await self._link.wait_open(30)
        self._pool = await create_pool(
            self.redis_settings,
            job_serializer=self.job_serializer,
            job_deserializer=self.job_deserializer,
            default_queue_name=self.queue_name,
        )
        found = await self._presence.take_over(self._report, list(self._lines.models))
        self._lines.inherit(None if found.alone else found.models)
        await self._presence.register()
        pinned, preload = await self._custody.begin(found.models)
        self._loop.open(self, preload, pinned)
        loops = [
            asyncio.create_task(self._listening.run(), name="listen"),
            asyncio.create_task(self._every_second(self._renew), name="renew"),
            asyncio.create_task(self._presence.pulse(partial(self._try, self._beat)), name="beat"),
            asyncio.create_task(self._every_second(self._lines.count), name="count"),
            asyncio.create_task(self._every_second(self._catch_up), name="catch up"),
            asyncio.create_task(self._every_second(self._custody.keep), name="keep"),
            asyncio.create_task(self._every_second(self._sweep), name="sweep"),
        ]
        loops.append(asyncio.create_task(self._leases.run(), name="leases"))
        if self._servers is not None:
            loops.append(asyncio.create_task(self._servers.run(), name="servers"))
        logger.info(
            "lane open", lane=self.lane, worker=self.name, models=list(self._loop.residents)
        )
        stopped = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait([stopped, *loops], return_when=asyncio.FIRST_COMPLETED)
        await self._claims.stop()
        await self._listening.close(self._link)
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await self._hand_back()
        for task in done - {stopped}:
            task.result()

    def _obey(self, control: Control) -> None:
        if isinstance(control, Resend):
            self._writer.resend(control.gateway)
            return
        if isinstance(control, Order):
            self._orders.obey(control)
            return
        request = self._running.get(control.job)
        if request is None:
            if isinstance(control, Cancel):
                self._handed.left(control.job)
        elif isinstance(control, Cancel):
            request.stop("cancelled")
        elif isinstance(control, Position):
            request.tell_position(control)

    def admit(self, model: str, count: int) -> None:
        self._claims.admit(model, count)

    def refuse(self, model: str, error: HubError, *, elsewhere: bool) -> None:
        self._claims.refuse(model, error, elsewhere=elsewhere)

    def offer(self, model: str) -> None:
        self._lines.open(model)
        self.changed()

    def forget(self, model: str) -> None:
        """Who asked for it in its last moment is told."""
        self._lines.close(model)
        self._claims.refuse(model, gone(model), elsewhere=False)
        self.changed()

    def changed(self) -> None:
        """Others hear at once what state a model is in."""
        self._presence.stale.set()

    def _begin(self, claimed: Claimed, grant: Grant, refusal: HubError | None) -> None:
        before = self._running.get(claimed.id)
        if before is not None:
            # Its lease ran out unnoticed, as when this process stood still, and we took it again.
            before.stop("lost")
            latest = before.claimed.attempt
            claimed = claimed._replace(attempt=max(claimed.attempt, latest + 1))
        ready = self._loop.ready_for(claimed.task.model)
        meter = Meter(claimed, ready, self._batches, self._clock)
        request = Request(claimed, self.name, self._writer, self._loop, grant, self._clock, meter)
        request.refusal = refusal
        if not self._writer.flows(claimed.task.gateway):
            request.set_flow(False)
        self._running[claimed.id] = request
        self.tasks[claimed.id] = asyncio.create_task(self._run(request), name=claimed.id)

    def _drop(self, claimed: Claimed) -> None:
        self._begin(claimed, Grant(claimed.task.model, NO_RUN), None)
        self._running[claimed.id].stop("cancelled")

    async def _run(self, request: Request) -> None:
        claimed = request.claimed
        try:
            if request.reason is None:
                request.task = asyncio.current_task()
                await self._call(request)
                self.jobs_complete += 1
        except asyncio.CancelledError:
            self.jobs_failed += request.reason == "cancelled"
        finally:
            if self._running.get(claimed.id) is request:
                del self._running[claimed.id]
                del self.tasks[claimed.id]
            if not request.over:
                self._writer.forget(claimed.task.gateway, claimed.task.stream)
            await request.leave()
            await settle(self._link, self.name, request)
            request.meter.close()

    async def _call(self, request: Request) -> None:
        claimed = request.claimed
        if self.max_tries and claimed.attempt > self.max_tries:
            await request.give_up()
        elif request.refusal is not None:
            await request.answer(refuse(request, request.refusal))
        else:
            function = self.functions[claimed.task.kind]
            await function.coroutine({**self.ctx, "request": request})

    async def _renew(self) -> None:
        self._writer.sweep()
        await self._running.renew()

    async def _catch_up(self) -> None:
        await self._listening.catch_up(self._link)

    async def _sweep(self) -> None:
        if released := await holds.sweep(self._link):
            logger.info("holds of jobs that are gone were released", count=released)

    async def _beat(self) -> None:
        await self._tell()
        await self.heart_beat()

    async def _tell(self) -> None:
        await self._presence.beat(len(self._running), self._report)

    async def _every_second(self, step: Step) -> None:
        while True:
            await self._try(step)
            await asyncio.sleep(1)

    async def _try(self, step: Step) -> None:
        try:
            await step()
        except (OSError, hiredis.HiredisError, redis.RedisError) as error:
            logger.warning("redis is away", step=step.__name__, error=str(error))

    def _reconnected(self) -> None:
        """Redis may have forgotten anything: put running jobs back, send replies again."""
        self._running.restore()
        self._writer.resend()

    async def _hand_back(self) -> None:
        self._stop.set()
        tasks = list(self.tasks.values())
        self._running.release()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        await self._writer.drained(1)
        with contextlib.suppress(Lost, hiredis.HiredisError):
            await self._presence.leave()
        await self._listening.stop()
        await self._link.stop()
        await self.pool.aclose()
        logger.info("lane closed", worker=self.name)
