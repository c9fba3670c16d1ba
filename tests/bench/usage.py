"""What the ledger costs a request: `python -m tests.bench.usage`.

The event of a refusal in the gateway, that of a job in the worker, and the write of it in Redis
beside the end of the job, each as the best of many rounds: what else the machine does is not ours.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import NamedTuple

import uvloop

from gateway.record import Record
from gateway.use import Use, unqueued
from shared import ending, ids, keys, queue
from shared.clock import SystemClock
from shared.queue import Claimed
from shared.resp import Link
from shared.settings import Settings
from shared.wire.account import Account
from shared.wire.event import Usage
from shared.wire.task import Origin, Task
from shared.wire.usage import encode
from tests.bench.figures import table
from tests.server import running_valkey, temporary_home
from worker.batches import Batches
from worker.meter import Known, Meter

ROUNDS = 40
COUNT = 250
JOBS = 500


class Costs(NamedTuple):
    """Microseconds each. `write` is part of `finish`, both as Redis counts its own time."""

    gateway: float
    worker: float
    finish: float
    write: float


def measure() -> Costs:
    with temporary_home() as home:
        settings = Settings(home=str(home))
        with running_valkey(settings):
            return uvloop.run(costs(settings.redis))


async def costs(url: str) -> Costs:
    link = Link(url, "bench")
    await link.start()
    await link.wait_open(10)
    # The first round makes the script known.
    ends = [await finishing(link) for _ in range(ROUNDS // 4)][1:]
    finish, write = (min(one) for one in zip(*ends, strict=True))
    found = Costs(refusals(link), jobs(), finish, write)
    await link.stop()
    return found


def refusals(link: Link) -> float:
    """From what the gateway knows of a request to its place in the queue."""
    record, use = Record(link), Use()
    use.endpoint, use.code = "chat/completions", "model_not_found"
    account = Account("key_" + "1" * 32, "proj_default", "org_default", "n", ("inference",))
    id_ = ids.new("req_")

    def once() -> None:
        record.add(unqueued(id_, account, use, 404, 0.01))

    return best(once)


def jobs() -> float:
    """From the end of a job in the worker to the bytes of its event."""
    clock = SystemClock()
    origin = Origin(ids.new("req_"), "proj_default", "chat/completions")
    key = "key_" + "1" * 32
    task = Task("job-1", "chat", "m", "gw", 1, True, b"{}", key, "interactive", 0, None, origin)
    batches = Batches({}, False, lambda: None, clock)
    claimed = Claimed("aihub:queue:m", "job-1", 1, task, b"")

    def once() -> None:
        meter = Meter(claimed, 1.0, batches, clock)
        with meter.computing():
            meter.begin()
        meter.count([Known(Usage(20, 100, 10))])
        event = meter.event(None)
        assert event is not None
        encode(event)

    return best(once)


def best(once: Callable[[], None]) -> float:
    """Microseconds of one, in the quickest round."""
    quickest = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(COUNT):
            once()
        quickest = min(quickest, time.perf_counter() - began)
    return quickest / COUNT * 1e6


async def finishing(link: Link) -> tuple[float, float]:
    """Of a job that ends: the whole call, and the write of its event."""
    name, now = keys.queue("bench"), int(time.time() * 1000)
    for number in range(JOBS):
        await queue.enqueue(link, job(number, now), None, JOBS + 1, now)
    claimed = await queue.claim(link, "wk", {name: JOBS})
    assert len(claimed) == JOBS
    use, account = Use(), Account("key_1", "proj_default", "org_default", "n", ("inference",))
    used = encode(unqueued(ids.new("req_"), account, use, 200, 1.0))
    await link.call("CONFIG", "RESETSTAT")
    ends = [ending.finish(link, "wk", name, one.id, used) for one in claimed]
    assert all(await asyncio.gather(*ends))
    told = (await link.call("INFO", "commandstats")).decode()
    await link.call("DEL", keys.USAGE)
    return spent(told, "fcall"), spent(told, "xadd") + spent(told, "xlen")


def spent(told: str, command: str) -> float:
    """Microseconds a call."""
    found = re.search(rf"cmdstat_{command}:.*usec_per_call=([0-9.]+)", told)
    assert found is not None
    return float(found[1])


def job(number: int, now: int) -> Task:
    service, deadline = "standard", now + 60_000
    return Task(f"job-{number}", "chat", "bench", "gw", 1, True, b"{}", "k", service, deadline)  # type: ignore[arg-type]


def main() -> None:
    found = measure()
    rows = [
        ("gateway: event of a refusal, queued", found.gateway),
        ("worker: event of a job, packed", found.worker),
        ("Redis: end of a job with its event", found.finish),
        ("Redis: of that, the event", found.write),
        ("on the path of a request: worker + the write", found.worker + found.write),
    ]
    print(table("The ledger, microseconds a request", ("what", "us"), rows))


if __name__ == "__main__":
    main()
