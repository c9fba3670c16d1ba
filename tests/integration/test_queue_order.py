"""The order of the queue in Lua against a model of it in a few lines, on a real server."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import ending, keys, queue
from shared.resp import Link
from shared.wire.task import Class, Task

QUEUE = keys.queue("m")
LIMIT = 12
SLOW_MS = 2_000
"""More than an example takes on a slow machine: jobs nearer to each other may go either way."""

services = st.sampled_from(["interactive", "standard", "batch"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 3), services),
        st.tuples(st.just("take"), st.integers(1, 4), st.none()),
        st.tuples(st.sampled_from(["finish", "lose", "abort"]), st.integers(0, 30), st.none()),
    ),
    max_size=30,
)


@dataclass
class Line:
    """Start-time fair queueing: who waits, by due time, and who runs."""

    waiting: dict[str, float] = field(default_factory=dict)
    running: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    due: dict[int, float] = field(default_factory=dict)

    def put(self, name: str, key: int, service: Class, cost: int, now: float) -> bool:
        if len(self.waiting) >= LIMIT:
            return False
        start = max(now, self.due.get(key, now))
        self.due[key] = start + cost
        self.waiting[name] = start + queue.SLACK_MS[service]
        return True

    def may_take(self, taken: list[str], places: int) -> None:
        """Checks a claim, and follows it."""
        available = len(self.lost) + len(self.waiting)
        assert len(taken) == min(places, available), (taken, self)
        for name in taken:
            if self.lost:
                self.running[name] = self.lost.pop(name) + 1
                continue
            due = self.waiting.pop(name)
            assert all(due <= other + SLOW_MS for other in self.waiting.values()), (name, self)
            self.running[name] = 1


async def play(url: str, story: list[tuple[str, int, Class | None]]) -> None:
    link = Link(url, "test")
    await link.start()
    await link.wait_open(5)
    try:
        await link.call("FLUSHALL")
        await follow(link, story)
    finally:
        await link.stop()


async def follow(link: Link, story: list[tuple[str, int, Class | None]]) -> None:
    line = Line()
    order: list[tuple[str, int, Class]] = []
    for step, (what, number, service) in enumerate(story):
        now = time.time() * 1000
        known = sorted([*line.waiting, *line.running, *line.lost])
        name = known[number % len(known)] if known else "nobody"
        if what == "put" and service is not None:
            job = Task(
                *(f"job-{step:02}", "chat", "m", "gw-1", step, True, b"x" * 30_000),
                *(f"key-{number}", service, int(now) + 60_000),
            )
            placed = await queue.enqueue(link, job, None, LIMIT, int(now))
            assert placed.waiting == len(line.waiting)
            there = line.put(job.id, number, service, queue.cost_ms(job), now)
            assert placed.state == ("queued" if there else "full")
            if there:
                order.append((job.id, number, service))
        elif what == "take":
            claimed = await queue.claim(link, "wk-1", {QUEUE: number})
            line.may_take([one.id for one in claimed], number)
            assert {one.id: one.attempt for one in claimed}.items() <= line.running.items()
        elif what == "finish":
            assert await ending.finish(link, "wk-1", QUEUE, name) == (name in line.running)
            line.running.pop(name, None)
        elif what == "lose" and name in line.running:
            await link.call("DEL", keys.IN_PROGRESS + name)
            await link.call("ZADD", QUEUE, int(now) - 1_000, name)
            line.lost[name] = line.running.pop(name)
        elif what == "abort" and name not in line.running:
            there = name in line.waiting or name in line.lost
            assert await ending.abort(link, QUEUE, name) == (2 if there else 0)
            line.waiting.pop(name, None)
            line.lost.pop(name, None)
    left = {*line.waiting, *line.running, *line.lost}
    jobs = {name.decode() for name in await link.call("KEYS", keys.JOB + "*")}
    assert jobs == {keys.JOB + name for name in left}
    assert await link.call("ZCARD", QUEUE) == len(left)
    last = [one.id for one in await queue.claim(link, "wk-2", {QUEUE: 100})]
    assert_own_order([name for name in last if name in line.waiting], order)


def assert_own_order(taken: list[str], order: list[tuple[str, int, Class]]) -> None:
    """Jobs of one key and one class leave in the order they came in."""
    for pair in {(key, service) for _, key, service in order}:
        came = [name for name, key, service in order if (key, service) == pair and name in taken]
        assert [name for name in taken if name in came] == came


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps)
def test_the_queue_is_as_its_model(
    valkey_url: str, story: list[tuple[str, int, Class | None]]
) -> None:
    asyncio.run(play(valkey_url, story))
