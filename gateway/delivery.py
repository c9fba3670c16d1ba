"""A reply on its way to the client, streamed or in one piece."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from gateway.counts import Counts
from gateway.exchange import Exchange, Header
from gateway.reply import Reply
from gateway.sse import WAITING, Chunks, failure
from gateway.waiting import Waiting
from shared.errors import HubError, RequestTimeout
from shared.wire.event import Answer, Failed, Vectors

KEEP_ALIVE = 10.0
"""Seconds without a byte after which a stream gets a comment."""
FIRST_COMMENT = 2.0
"""Seconds in line after which a stream that is to wait on is told what it waits for."""
NEXT_COMMENT = 2.0
WORTH_TELLING = 1.0
"""A shorter rest of a wait opens no stream: an error can still come with its own status."""

Ended = Callable[[], Awaitable[None]]


class Limit(NamedTuple):
    """What a request may take, in `seconds`, and when on the event loop's clock it is over."""

    seconds: float
    end: float


async def count_stream(
    exchange: Exchange,
    reply: Reply,
    chunks: Chunks,
    limit: Limit,
    counts: Counts,
    ended: Ended | None = None,
) -> None:
    """`stream`, counted."""
    name = exchange.model or reply.task.model
    model = (name,)
    items = await stream(
        exchange, reply, chunks, limit, lambda seconds: counts.first.observe(seconds, model), ended
    )
    counts.items.add(items, model)
    if chunks.usage is not None:
        counts.add_tokens(name, chunks.usage)


async def stream(
    exchange: Exchange,
    reply: Reply,
    chunks: Chunks,
    limit: Limit,
    first: Callable[[float], None],
    ended: Ended | None = None,
) -> int:
    """Sends a reply as events; returns how many items it had. `first` gets seconds to content.

    `ended` is called when it ended well, before the client is told its end. Whoever calls it is in
    a Presence, as the client may stop reading. The status goes out with the first content or
    comment, so that what fails before is a plain HTTP error; what fails later is an error event.
    """
    loop = asyncio.get_running_loop()
    silence = Silence(loop.time())
    count = 0
    begun = False
    while chunks.usage is None and chunks.failed is None:
        items = await reply.items(max(0.0, min(silence.due, limit.end) - loop.time()))
        count += len(items)
        data = chunks.render(items)
        if not items and loop.time() >= limit.end:
            chunks.failed = too_slow(limit).failed()
        if chunks.failed is not None:
            if not exchange.status:
                exchange.extra += wait_headers(reply)
                await exchange.refuse(chunks.failed)
                break
            data += failure(chunks.failed)
        elif not data:
            data = silence.comment(exchange, reply.waiting, loop.time())
            if not data:
                continue
        elif not begun:
            begun = True
            first(exchange.seconds)
        if not exchange.status:
            exchange.extra += wait_headers(reply)
            await exchange.open_stream()
        over = chunks.usage is not None or chunks.failed is not None
        if ended is not None and chunks.usage is not None:
            await ended()
        await exchange.write(data, last=over)
        silence.broken(reply.waiting, loop.time())
    return count


class Silence:
    """When a stream without content is to say something; times are the event loop's."""

    def __init__(self, now: float) -> None:
        self.due = now + FIRST_COMMENT
        self._ends = now + KEEP_ALIVE

    def comment(self, exchange: Exchange, waiting: Waiting | None, now: float) -> bytes:
        """What it says now; empty: nothing yet."""
        if now < self.due:
            return b""
        data = comment(
            waiting,
            opened=bool(exchange.status),
            silent=now >= self._ends,
            discreet=bool(exchange.account.models),
        )
        if not data:
            self.due = now
        return data

    def broken(self, waiting: Waiting | None, now: float) -> None:
        """Something was sent."""
        self._ends = now + KEEP_ALIVE
        self.due = self._ends if waiting is None else now + NEXT_COMMENT


def comment(
    waiting: Waiting | None, *, opened: bool, silent: bool, discreet: bool = False
) -> bytes:
    """What a stream says that has no content yet, or none for a while; nothing: not now.

    While it waits in line it is told for what, from FIRST_COMMENT seconds on. The first comment
    sends the status, so it has to be worth that: the wait is to last WORTH_TELLING seconds more
    and the model's last load did not fail. After KEEP_ALIVE seconds without a byte (`silent`) and
    once the status is out (`opened`) nothing speaks against it. A key that may use only some models
    (`discreet`) does not hear of others. Reply.tick looks at these times,
    so each comes up to a second later.
    """
    if waiting is None:
        return WAITING if silent else b""
    likely = waiting.seconds >= WORTH_TELLING and not waiting.fails
    return waiting.comment(discreet=discreet) if opened or silent or likely else b""


def wait_headers(reply: Reply) -> list[Header]:
    """What a reply tells of its wait. Times are in milliseconds, as this gateway saw them."""
    headers = [(b"x-aihub-queue-position", b"%d" % (reply.placed + 1))]
    if reply.expected is not None:
        headers.append((b"x-aihub-expected-wait-ms", b"%d" % (reply.expected * 1000)))
    if reply.started is not None:
        headers.append((b"x-aihub-waited-ms", b"%d" % ((reply.started - reply.opened) * 1000)))
        if reply.loaded:
            headers.append((b"x-aihub-load-ms", b"%d" % (reply.loaded * 1000)))
    return headers


async def whole(reply: Reply, limit: Limit) -> Answer | Vectors | Failed:
    """The one item a reply consists of, once it is there."""
    loop = asyncio.get_running_loop()
    while True:
        items = await reply.items(max(0.0, limit.end - loop.time()))
        for item in items:
            if isinstance(item, Answer | Vectors | Failed):
                return item
        if not items and loop.time() >= limit.end:
            return too_slow(limit).failed()


def too_slow(limit: Limit) -> HubError:
    return RequestTimeout(f"The request took longer than {limit.seconds:g} seconds.")
