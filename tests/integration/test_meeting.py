"""A gateway that is there before its workers: it answers as soon as they do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway import sightings
from gateway.dispatch import Dispatch
from shared.errors import ModelUnavailable
from tests.lanes import Hub, assert_whole, eventually, rest, running
from tests.native import Upstream


@pytest.fixture
async def alone(valkey_url: str, upstream: Upstream) -> AsyncIterator[Hub]:
    """A hub that has no worker yet, and whose gateway does not look every second."""
    async with running(valkey_url, upstream, lanes=0) as hub:
        stop(hub.dispatches[0], "watch")
        yield hub


def stop(dispatch: Dispatch, name: str) -> None:
    (task,) = [task for task in dispatch._tasks if task.get_name() == name]
    task.cancel()


async def test_it_is_ready_when_a_worker_is(alone: Hub) -> None:
    dispatch = alone.dispatches[0]
    assert dispatch.missing() == {"worker cpu": "not running"}
    await alone.lane()
    await eventually(lambda: not dispatch.missing())


async def test_it_looks_again_before_it_refuses(alone: Hub) -> None:
    """Another gateway may have said that the hub is ready, and the kernel chose this one."""
    stop(alone.dispatches[0], "meet")
    with pytest.raises(ModelUnavailable):
        await alone.ask(5)
    await alone.lane()
    assert_whole(await rest(await alone.ask(5)), 5)


async def test_nobody_to_meet_is_no_work(alone: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks often for a bounded time, and not at all once somebody answers."""
    monkeypatch.setattr(sightings, "MEET_SECONDS", 0.0)
    async with asyncio.timeout(5):
        await alone.dispatches[0].sightings.meet(alone.catalog)
    monkeypatch.setattr(sightings, "MEET_SECONDS", 3600.0)
    await alone.lane()
    await eventually(lambda: not alone.dispatches[0].missing())
    async with asyncio.timeout(5):
        await alone.dispatches[0].sightings.meet(alone.catalog)
