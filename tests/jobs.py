"""Jobs of one queue, as tests put them there and take them."""

from __future__ import annotations

import time

from shared import keys, queue
from shared.resp import Link
from shared.wire.task import Class, Task

QUEUE = keys.queue("m")


def task(name: str, key: str = "alice", service: Class = "interactive", size: int = 0) -> Task:
    deadline = int(time.time() * 1000) + 60_000
    return Task(name, "chat", "m", "gw-1", 1, True, b"x" * size, key, service, deadline)


async def put(link: Link, job: Task, limit: int = 100, attempt: int | None = None) -> queue.Placed:
    return await queue.enqueue(link, job, "wk-1", limit, int(time.time() * 1000), attempt)


async def take(link: Link, places: int = 100, worker: str = "wk-1") -> list[str]:
    return [claimed.id for claimed in await queue.claim(link, worker, {QUEUE: places})]


async def expire_lease(link: Link, name: str) -> None:
    """As if the lease's time had passed."""
    await link.call("DEL", keys.IN_PROGRESS + name)
    await link.call("ZADD", QUEUE, int(time.time() * 1000) - 10, name)


async def names(link: Link, pattern: str = "*") -> set[str]:
    return {name.decode() for name in await link.call("KEYS", pattern)}
