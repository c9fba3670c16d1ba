"""Requests that wait for an adapter: their places are others', and their model stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from shared.errors import HubError
from tests.loops import around
from tests.unit.worker.scripted import Scripted, says
from worker.loop import Loop
from worker.occasion import Arrived, UnloadAsked
from worker.places import NO_RUN, Grant


class Taken:
    """A worker.loop.Port that takes every request that it may."""

    def __init__(self) -> None:
        self.count = 0

    def admit(self, model: str, count: int) -> None:
        self.count += count

    def changed(self) -> None:
        return None

    def refuse(self, model: str, error: HubError, *, elsewhere: bool) -> None:
        raise AssertionError(error)


async def eventually(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not there():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def served(folder: Path, count: int) -> tuple[Loop, list[Grant], Taken]:
    """A loop of two places, so many requests in them."""
    port = Taken()
    loop = around({"m": Scripted(says("a"))}, folder, places=2)
    loop.open(port, [])
    for _ in range(count):
        loop.post(Arrived(loop.now, "m", "interactive"))
    await eventually(lambda: port.count == min(count, 2))
    return loop, [loop.grant("m") for _ in range(port.count)], port


async def test_places_of_the_parked_are_others_and_the_model_is_not_idle(tmp_path: Path) -> None:
    loop, grants, port = await served(tmp_path, 4)
    assert [loop.park(grant) for grant in grants] == [Grant("m", NO_RUN)] * 2
    assert port.count == 4
    assert (loop.slot("m").serving, loop.slot("m").plan.places) == (3, 3)
    for _ in range(2):
        loop.end(loop.grant("m"))
    assert loop.slot("m").serving == 1
    grant, _ = await loop.resume("m", "interactive")
    assert grant.run == grants[0].run
    loop.unpark("m")
    assert (loop.slot("m").serving, loop.slot("m").plan.places) == (1, 2)
    loop.end(grant)
    assert loop.slot("m").idle
    await loop.close()


async def test_a_model_that_drains_does_not_wait_for_the_parked(tmp_path: Path) -> None:
    loop, grants, _ = await served(tmp_path, 1)
    void = loop.park(grants[0])
    loop.post(UnloadAsked(loop.now, "m"))
    assert loop.slot("m").state == "draining"
    async with asyncio.timeout(5):
        grant, engine = await loop.resume(void.model, "interactive")
    assert grant.run > grants[0].run
    assert engine.alive
    assert (loop.slot("m").serving, loop.slot("m").plan.places) == (1, 2)
    await loop.close()


async def test_a_place_kept_in_a_run_that_ended_is_nobodys(tmp_path: Path) -> None:
    loop, grants, _ = await served(tmp_path, 1)
    loop.park(grants[0])
    loop.died("m", "killed")
    assert loop.slot("m").serving == 0
    loop.unpark("m")
    assert loop.slot("m").plan.places == 2
    await loop.close()


async def test_who_leaves_the_line_gives_a_place_back(tmp_path: Path) -> None:
    loop, grants, _ = await served(tmp_path, 1)
    loop.park(grants[0])
    loop.post(UnloadAsked(loop.now, "m"))
    resumed = asyncio.create_task(loop.resume("m", "interactive"))
    await asyncio.sleep(0)
    resumed.cancel()
    await asyncio.gather(resumed, return_exceptions=True)
    await eventually(lambda: loop.returning("m") == 0 and loop.slot("m").serving == 0)
    await loop.close()
