"""How long a job waits between enqueue and start, with other jobs running or not."""

from __future__ import annotations

import asyncio
import time

import msgspec
import uvloop

from gateway.dispatch import Dispatch
from shared.catalog import Catalog
from shared.settings import Model, Settings
from shared.wire.event import Started
from tests.bench.figures import percentile
from tests.hub import Hub


def queue_latency(hub: Hub, running: int, jobs: int) -> dict[str, float]:
    """Milliseconds from the enqueue call to the worker's start of the job, p50 and p99."""
    return uvloop.run(measure(hub, running, jobs))


async def measure(hub: Hub, running: int, jobs: int) -> dict[str, float]:
    settings = Settings(
        home=str(hub.home),
        queue_limit=10_000,
        models={"bench": Model(engine="openai", url="unix:/nowhere")},
    )
    dispatch = Dispatch(settings, Catalog(settings.models))
    await dispatch.start()
    entry = next(iter(Catalog(settings.models)))

    async def begin(tokens: int) -> float:
        body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": tokens}
        asked = time.monotonic()
        reply = await dispatch.open(
            "chat",
            entry,
            msgspec.json.encode(body),
            key="bench",
            streamed=True,
            service="interactive",
        )
        replies.append(reply)
        items = await reply.items(10)
        assert isinstance(items[0], Started), items
        return (items[0].at - asked) * 1000

    replies = []
    await asyncio.gather(*(begin(10_000) for _ in range(running)))
    waits = []
    for _ in range(jobs):
        waits.append(await begin(1))
        replies.pop().close()
        await asyncio.sleep(0.004)
    for reply in replies:
        reply.close()
    await dispatch.stop()
    waits.sort()
    return {"p50": percentile(waits, 50), "p99": percentile(waits, 99)}
