"""What an administrator is told at once, by a real loop around engines that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from shared.clock import SystemClock
from shared.errors import EngineFailed
from shared.resp import Link
from shared.wire.event import Order, Ordered
from tests.loops import GIB, around, reported
from tests.unit.worker.scripted import NoQueue, Scripted, says
from worker.loop import Loop
from worker.order import Orders


class Desk:
    """A loop, and the orders that are put to it."""

    def __init__(self, folder: Path, sizes: dict[str, int], **engines: Scripted) -> None:
        self.loop: Loop = around(engines, folder)
        slots = {
            name: replace(slot, plan=replace(slot.plan, size=sizes[name]))
            for name, slot in self.loop.state.slots.items()
        }
        self.loop.state = replace(self.loop.state, slots=slots)
        link = Link("redis://127.0.0.1:1", "none")
        self._orders = Orders(link, self.loop, reported(self.loop), SystemClock())
        self.loop.open(NoQueue(self.loop), [])

    def order(self, what: str, model: str) -> Ordered:
        return self._orders.carry_out(Order("id", what, model))  # type: ignore[arg-type]

    def state(self, what: str, model: str) -> str:
        answer = self.order(what, model)
        assert answer.failed is None, answer.failed
        assert answer.report is not None
        return answer.report.state

    async def reaches(self, model: str, state: str) -> None:
        async with asyncio.timeout(5):
            while self.loop.slot(model).state != state:  # noqa: ASYNC110
                await asyncio.sleep(0)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened(tmp_path, {"a": GIB // 2, "b": GIB // 2}) as desk:
        yield desk


@asynccontextmanager
async def opened(folder: Path, sizes: dict[str, int], **engines: Scripted) -> AsyncIterator[Desk]:
    desk = Desk(folder, sizes, **{name: engines.get(name, Scripted(says("x"))) for name in sizes})
    yield desk
    await desk.loop.close()


async def test_a_load_begins_at_once_and_a_second_one_changes_nothing(desk: Desk) -> None:
    assert desk.state("load", "a") == "loading"
    assert desk.state("load", "a") == "loading"
    await desk.reaches("a", "ready")
    told = desk.order("load", "a").report
    assert told is not None
    assert (told.state, told.asked) == ("ready", False)


async def test_a_second_load_says_what_it_waits_for(desk: Desk) -> None:
    desk.order("load", "a")
    told = desk.order("load", "b").report
    assert told is not None
    assert (told.state, told.asked) == ("absent", True)
    assert told.held == "the load of a comes first"
    await desk.reaches("b", "ready")
    told = desk.order("load", "b").report
    assert told is not None
    assert told.held == ""


async def test_what_cannot_fit_is_refused_with_the_numbers(tmp_path: Path) -> None:
    async with opened(tmp_path, {"a": 2 * GIB}) as desk:
        failed = desk.order("load", "a").failed
        assert failed is not None
        assert (failed.status, failed.code, failed.param) == (400, "invalid_value", "model")
        assert failed.message == "a needs 2.00 GiB, the device has 1.00 GiB: 1.00 GiB can be had"
        assert not desk.loop.slot("a").asked


async def test_a_pin_beyond_the_budget_is_refused_and_the_next_order_is_not(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, {"a": GIB // 2, "b": GIB // 2 + 1}) as desk:
        assert desk.state("pin", "a") == "loading"
        failed = desk.order("pin", "b").failed
        assert failed is not None
        assert (failed.status, failed.param) == (400, "model")
        assert "beside what is pinned" in failed.message
        assert desk.state("unpin", "a") == "loading"
        assert desk.order("pin", "b").failed is None
        await desk.reaches("b", "ready")


async def test_a_load_in_its_pause_is_refused_with_the_engines_words(tmp_path: Path) -> None:
    broken = Scripted(starts=(EngineFailed("no such file: a.gguf"),))
    async with opened(tmp_path, {"a": 1}, a=broken) as desk:
        assert desk.state("load", "a") == "loading"
        await desk.reaches("a", "failed")
        failed = desk.order("load", "a").failed
        assert failed is not None
        assert (failed.status, failed.code) == (503, "model_unavailable")
        assert "no such file: a.gguf" in failed.message
        assert failed.retry_after is not None
        assert 0 < failed.retry_after <= 1


async def test_an_unload_lets_go_of_a_pinned_model(desk: Desk) -> None:
    desk.order("pin", "a")
    await desk.reaches("a", "ready")
    assert desk.state("unload", "a") == "draining"
    await desk.reaches("a", "absent")
    assert not desk.loop.slot("a").pinned


async def test_a_model_of_another_worker(desk: Desk) -> None:
    failed = desk.order("load", "c").failed
    assert failed is not None
    assert (failed.status, failed.code, failed.param) == (404, "model_not_found", "model")
