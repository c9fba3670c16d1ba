"""What the routes that ask a model have in common: queue the request, deliver, count, let go."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from typing import NamedTuple

from gateway import delivery
from gateway.counts import Counts
from gateway.delivery import Limit
from gateway.dispatch import Dispatch
from gateway.exchange import JSON, Exchange, Presence
from gateway.routes.admission import Admission
from gateway.sse import Chunks
from shared.catalog import Entry
from shared.settings import Settings
from shared.wire.event import Answer, Failed, Vectors
from shared.wire.task import Class, Kind

STALLED = 5.0
"""Seconds beyond its limit that a reply's last bytes may wait for the client to read them."""


class Ask(NamedTuple):
    """One request as its route read it. `body` is the client's JSON as it came."""

    kind: Kind
    entry: Entry
    body: bytes
    service: Class
    streamed: bool = False


class Form(ABC):
    """How one reply is written. `created` is when its content was, in epoch seconds."""

    @abstractmethod
    def whole(self, answer: Answer | Vectors, created: int) -> bytes:
        """The reply in one piece."""

    @abstractmethod
    def chunks(self, created: int) -> Chunks:
        """The reply as a stream."""


class Generation:
    """One per gateway process."""

    def __init__(
        self, settings: Settings, admission: Admission, dispatch: Dispatch, counts: Counts
    ) -> None:
        self.settings = settings
        self.admission = admission
        self._dispatch = dispatch
        self._counts = counts

    async def answer(self, exchange: Exchange, ask: Ask, form: Form) -> None:
        """Sends the reply to one request; raises HubError where nothing was sent yet."""
        exchange.use.service, exchange.use.streamed = ask.service, ask.streamed
        seconds = self.settings.request_timeout
        limit = Limit(seconds, asyncio.get_running_loop().time() + seconds)
        with Presence(exchange, seconds + STALLED):
            answer = await self._compute(exchange, ask, form, limit)
        if isinstance(answer, Failed):
            await exchange.refuse(answer)
        elif answer is not None:
            await exchange.respond(200, form.whole(answer, now()), JSON)

    async def _compute(
        self, exchange: Exchange, ask: Ask, form: Form, limit: Limit
    ) -> Answer | Vectors | Failed | None:
        """What the reply is to say, None when it was sent as a stream."""
        reply = await self._dispatch.open(
            ask.kind,
            ask.entry,
            ask.body,
            key=exchange.account.key,
            streamed=ask.streamed,
            service=ask.service,
            origin=exchange.origin,
        )
        exchange.use.queued = True
        try:
            if ask.streamed:
                chunks = form.chunks(now())
                await delivery.count_stream(exchange, reply, chunks, limit, self._counts)
                return None
            answer = await delivery.whole(reply, limit)
            exchange.extra += delivery.wait_headers(reply)
        finally:
            reply.close()
        if not isinstance(answer, Failed):
            self._counts.add_tokens(ask.entry.name, answer.usage)
        return answer


def now() -> int:
    """Epoch seconds."""
    return int(time.time())
