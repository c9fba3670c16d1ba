"""A reply on its way to the client, streamed or in one piece."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from gateway.counts import Counts
from gateway.exchange import Exchange, Presence
from gateway.reply import Reply
from gateway.sse import WAITING, Chunks, failure
from shared.errors import HubError, RequestTimeout
from shared.wire.event import Failed, Item

KEEP_ALIVE = 10.0
"""Seconds without a byte after which a stream gets a comment."""

STALLED = 5.0
"""Seconds beyond its limit that a reply's last bytes may wait for the client to read them."""

T = TypeVar("T", bound=Item)


async def count_stream(
    exchange: Exchange, reply: Reply, chunks: Chunks, limit: float, counts: Counts
) -> None:
    """`stream`, counted."""
    name = exchange.model or reply.task.model
    model = (name,)
    items = await stream(
        exchange, reply, chunks, limit, lambda seconds: counts.first.observe(seconds, model)
    )
    counts.items.add(items, model)
    if chunks.usage is not None:
        counts.add_tokens(name, chunks.usage)


async def stream(
    exchange: Exchange,
    reply: Reply,
    chunks: Chunks,
    limit: float,
    first: Callable[[float], None],
) -> int:
    """Sends a reply as events; returns how many items it had. `first` gets seconds to content.

    The status goes out with the first content, so that what fails before is a plain HTTP error;
    a client that waits long gets comments until then.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + limit
    due = loop.time() + KEEP_ALIVE
    count = 0
    begun = False
    with Presence(exchange, limit + STALLED):
        while chunks.usage is None and chunks.failed is None:
            items = await reply.items(max(0.0, min(due, end) - loop.time()))
            count += len(items)
            data = chunks.render(items)
            if not items and loop.time() >= end:
                chunks.failed = too_slow(limit).failed()
            if chunks.failed is not None:
                if not exchange.status:
                    await exchange.refuse(chunks.failed)
                    break
                data += failure(chunks.failed)
            elif not data:
                if loop.time() < due:
                    continue
                data = WAITING
            elif not begun:
                begun = True
                first(exchange.seconds)
            if not exchange.status:
                await exchange.open_stream()
            over = chunks.usage is not None or chunks.failed is not None
            await exchange.write(data, last=over)
            due = loop.time() + KEEP_ALIVE
    return count


async def whole(exchange: Exchange, reply: Reply, kind: type[T], limit: float) -> T | Failed:
    """The one item a reply consists of, once it is there."""
    loop = asyncio.get_running_loop()
    end = loop.time() + limit
    with Presence(exchange, limit + STALLED):
        while True:
            items = await reply.items(max(0.0, end - loop.time()))
            for item in items:
                if isinstance(item, (kind, Failed)):
                    return item
            if not items and loop.time() >= end:
                return too_slow(limit).failed()


def too_slow(limit: float) -> HubError:
    return RequestTimeout(f"The request took longer than {limit:g} seconds.")
