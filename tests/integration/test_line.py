"""How long lines are, and where jobs stand in them."""

from __future__ import annotations

import asyncio

from shared import line, queue
from shared.resp import Link
from tests.jobs import QUEUE, expire_lease, put, take, task


async def test_lines_are_counted_and_timed(link: Link) -> None:
    assert await line.waiting(link, [QUEUE]) == {QUEUE: line.Line(0, 0)}
    await put(link, task("batch", key="b", service="batch"))
    found = (await line.waiting(link, [QUEUE]))[QUEUE]
    assert found.waiting == 1
    assert -queue.SLACK_MS["batch"] <= found.overdue_ms < -queue.SLACK_MS["batch"] + 5_000
    await put(link, task("job-1"))
    await link.call("ZINCRBY", QUEUE, -7_000, "job-1")
    found = (await line.waiting(link, [QUEUE, "aihub:queue:other"]))[QUEUE]
    assert found.waiting == 2
    assert 7_000 <= found.overdue_ms < 12_000
    await take(link)
    assert (await line.waiting(link, [QUEUE]))[QUEUE] == line.Line(0, 0)
    await expire_lease(link, "job-1")
    assert (await line.waiting(link, [QUEUE]))[QUEUE].waiting == 1


async def test_where_jobs_stand(link: Link) -> None:
    for name in "abc":
        await put(link, task(name, key=name))
        await asyncio.sleep(0.002)
    await put(link, task("late", key="d", service="batch"))
    assert await line.standing(link, QUEUE, ["a", "c", "late", "nobody"]) == [0, 2, 3, None]
    assert await take(link, 1) == ["a"]
    assert await line.standing(link, QUEUE, ["a", "b", "c", "late"]) == [None, 0, 1, 2]
    await put(link, task("d", key="e"))
    assert await line.standing(link, QUEUE, ["late", "d"]) == [3, 2]
