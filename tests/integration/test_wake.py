"""How a worker is called."""

from __future__ import annotations

from shared import keys, wake
from shared.resp import Link
from tests.jobs import QUEUE, put, task


async def test_a_worker_is_called_with_the_queue_that_has_work(link: Link) -> None:
    await put(link, task("job-1"))
    wake.call(link, "wk-1", QUEUE, 2)
    assert await link.call("LRANGE", keys.wake("wk-1"), 0, -1) == [QUEUE.encode()] * 3
    assert 0 < await link.call("PTTL", keys.wake("wk-1")) <= keys.WAKE_MS
