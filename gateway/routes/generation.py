"""What the routes that ask a model have in common: a kept answer or a job, delivered, counted."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import NamedTuple

from gateway import delivery, errand
from gateway.ask import Ask, Form, StreamForm
from gateway.cache import kept, terms
from gateway.cache.kept import Kept, Tape
from gateway.cache.memory import Found, Memory, Pending
from gateway.counts import Counts
from gateway.delivery import Limit
from gateway.dispatch import Dispatch
from gateway.exchange import JSON, Exchange, Presence
from gateway.reply import Reply
from gateway.routes.admission import Admission
from gateway.sse import WAITING, failure
from shared import ids
from shared.errors import HubError, ShuttingDown
from shared.settings import Settings
from shared.wire.account import Account
from shared.wire.event import Answer, Failed, Vectors

STALLED = 5.0
"""Seconds beyond its limit that a reply's last bytes may wait for the client to read them."""
WATCHED_AFTER = 0.05
"""Seconds after which a client's departure is noticed."""
LEAVING = ShuttingDown.code


class Told(NamedTuple):
    """What a reply in one piece says."""

    answer: Answer | Vectors | Failed
    created: int


class Generation:
    """One per gateway process."""

    def __init__(
        self,
        settings: Settings,
        admission: Admission,
        dispatch: Dispatch,
        counts: Counts,
        memory: Memory,
    ) -> None:
        self.settings = settings
        self.admission = admission
        self._dispatch = dispatch
        self._counts = counts
        self._memory = memory

    async def answer(self, exchange: Exchange, ask: Ask, form: Form) -> None:
        """Sends the reply to one request; raises HubError where nothing was sent yet."""
        exchange.use.service, exchange.use.streamed = ask.service, ask.streamed
        seconds = self.settings.request_timeout
        limit = Limit(seconds, asyncio.get_running_loop().time() + seconds)
        with Presence(exchange, seconds + STALLED, WATCHED_AFTER):
            try:
                told = await self._find(exchange, ask, form, limit)
            except HubError as error:
                if not exchange.status:
                    raise
                exchange.use.code = error.code
                await exchange.write(failure(error.failed()), last=True)
                return
        if told is None:
            return
        if isinstance(told.answer, Failed):
            await exchange.refuse(told.answer)
        else:
            await exchange.respond(200, form.whole(told.answer, told.created), JSON)

    async def _find(self, exchange: Exchange, ask: Ask, form: Form, limit: Limit) -> Told | None:
        """What is kept, or what is computed; None when it was sent as a stream."""
        wanted = terms.read(exchange.headers)
        if wanted.off:
            self._tell(exchange, "off")
            return await self._compute(exchange, ask, form, limit, None)
        try:
            found = await self._memory.find(
                ask,
                exchange.account,
                wanted,
                limit.end,
                partial(self._join, exchange, ask),
                partial(self._again, exchange.account, ask),
            )
        except TimeoutError:
            raise delivery.too_slow(limit) from None
        if found is None:
            return await self._compute(exchange, ask, form, limit, None)
        if isinstance(found, Found):
            return await self._repeat(exchange, ask, form, found)
        self._tell(exchange, "miss")
        try:
            return await self._compute(exchange, ask, form, limit, found)
        except HubError as error:
            found.alone = error.code != LEAVING
            raise
        finally:
            found.close()

    async def _repeat(self, exchange: Exchange, ask: Ask, form: Form, found: Found) -> Told | None:
        await self._dispatch.reservations.admit(exchange.account, exchange.extra)
        self._tell(exchange, found.how)
        exchange.use.cache = "semantic" if found.how == "semantic" else "exact"
        exchange.extra.append((b"age", b"%d" % found.age))
        created = found.kept.created
        if not ask.streamed:
            return Told(kept.in_one(found.kept), created)
        assert isinstance(form, StreamForm)
        data = form.chunks(created).render(kept.in_pieces(found.kept))
        if not exchange.status:
            await exchange.open_stream()
        await exchange.write(data, last=True)
        return None

    async def _join(self, exchange: Exchange, ask: Ask) -> None:
        """A sign of life while another computes the answer."""
        if not ask.streamed:
            return
        if not exchange.status:
            self._tell(exchange, "joined")
            await exchange.open_stream()
        await exchange.write(WAITING)

    async def _compute(
        self, exchange: Exchange, ask: Ask, form: Form, limit: Limit, pending: Pending | None
    ) -> Told | None:
        """By a worker; `pending` keeps the answer if it is one."""
        reservation = await self._dispatch.reservations.make(
            exchange.account, ask.entry, ask.worst, ids.wall_ms(exchange.id)
        )
        try:
            reply = await self._dispatch.open(
                ask.kind,
                ask.entry,
                ask.body,
                key=exchange.account.key,
                streamed=ask.streamed,
                service=ask.service,
                origin=exchange.origin,
                reservation=reservation,
            )
        except asyncio.CancelledError:
            # It may be a job already: Dispatch writes its use down as it aborts it.
            exchange.use.queued = True
            raise
        finally:
            exchange.extra += reservation.headers()
        exchange.use.queued = True
        try:
            if ask.streamed:
                assert isinstance(form, StreamForm)
                await self._stream(exchange, form, reply, limit, pending)
                return None
            answer = await delivery.whole(reply, limit)
            exchange.extra += delivery.wait_headers(reply)
        finally:
            reply.close()
        told = Told(answer, now())
        if isinstance(answer, Failed):
            if pending is not None:
                pending.alone = answer.code != LEAVING
            return told
        self._counts.add_tokens(ask.entry.name, answer.usage)
        if pending is not None:
            await pending.keep(Kept(told.created, [answer]))
        return told

    async def _stream(
        self,
        exchange: Exchange,
        form: StreamForm,
        reply: Reply,
        limit: Limit,
        pending: Pending | None,
    ) -> None:
        created = now()
        chunks = form.chunks(created)
        if pending is None:
            await delivery.count_stream(exchange, reply, chunks, limit, self._counts)
            return
        chunks.tape = tape = Tape(self._memory.largest)

        async def whole() -> None:
            await pending.keep(tape.kept(created))

        await delivery.count_stream(exchange, reply, chunks, limit, self._counts, whole)
        pending.alone |= chunks.failed is not None and chunks.failed.code != LEAVING

    async def _again(self, account: Account, ask: Ask) -> Kept | None:
        """Computed anew for a check, by who pays for the request, when there is nothing else to do.

        None: it failed.
        """
        seconds = self.settings.request_timeout
        limit = Limit(seconds, asyncio.get_running_loop().time() + seconds)
        try:
            reply = await errand.run(
                self._dispatch, ask.kind, ask.entry, ask.body, account, "batch", ask.worst
            )
        except HubError:
            return None
        try:
            answer = await delivery.whole(reply, limit)
        finally:
            reply.close()
        return None if isinstance(answer, Failed) else Kept(now(), [answer])

    def _tell(self, exchange: Exchange, outcome: str) -> None:
        """What the cache did, unless the client was told before."""
        if exchange.status:
            return
        exchange.extra.append((b"x-aihub-cache", outcome.encode()))
        self._counts.cached.add(1, (outcome,))


def now() -> int:
    """Epoch seconds."""
    return int(time.time())
