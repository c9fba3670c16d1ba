"""What the ledger costs a request: `python -m tests.bench.usage`.

The event of a refusal in the gateway, that of a job in the worker, and the write of it in Redis
beside the end of the job, each as the best of many rounds: what else the machine does is not ours.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import uvloop

from gateway.record import Record
from gateway.use import Use, unqueued
from shared import ids, keys, queue
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
    """Microseconds each."""

    gateway: float
    worker: float
    finish: float
    finish_and_write: float

    @property
    def write(self) -> float:
        return max(0.0, self.finish_and_write - self.finish)


def measure() -> Costs:
    with temporary_home() as home:
        settings = Settings(home=str(home))
        with running_valkey(settings):
            return uvloop.run(costs(settings.redis))


async def costs(url: str) -> Costs:
    link = Link(url, "bench")
    await link.start()
    await link.wait_open(10)
    plain, with_event = [], []
    for _ in range(ROUNDS // 4):
        plain.append(await finishing(link, written=False))
        with_event.append(await finishing(link, written=True))
    found = Costs(refusals(link), jobs(), min(plain), min(with_event))
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


async def finishing(link: Link, *, written: bool) -> float:
    """Microseconds for each of many jobs that end at once; all of Redis's work is in it."""
    meter = ids.new("req_")
    name = keys.queue("bench")
    now = int(time.time() * 1000)
    for number in range(JOBS):
        await queue.enqueue(link, job(number, now), None, JOBS + 1, now)
    claimed = await queue.claim(link, "wk", {name: JOBS})
    assert len(claimed) == JOBS
    use, account = Use(), Account("key_1", "proj_default", "org_default", "n", ("inference",))
    used = encode(unqueued(meter, account, use, 200, 1.0)) if written else None
    began = time.perf_counter()
    ends: list[Awaitable[bool]] = [queue.finish(link, "wk", name, one.id, used) for one in claimed]
    assert all(await asyncio.gather(*ends))
    took = time.perf_counter() - began
    await link.call("DEL", keys.USAGE)
    return took / JOBS * 1e6


def job(number: int, now: int) -> Task:
    service, deadline = "standard", now + 60_000
    return Task(f"job-{number}", "chat", "bench", "gw", 1, True, b"{}", "k", service, deadline)  # type: ignore[arg-type]


def main() -> None:
    found = measure()
    rows = [
        ("gateway: event of a refusal, queued", found.gateway),
        ("worker: event of a job, packed", found.worker),
        ("Redis: end of a job", found.finish),
        ("Redis: end of a job with its event", found.finish_and_write),
        ("on the path of a request: worker + the write", found.worker + found.write),
    ]
    print(table("The ledger, microseconds a request", ("what", "us"), rows))


if __name__ == "__main__":
    main()
