"""Room for a job on a worker's device: the worker's loop and books and the trainer are real."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.wire.training import Job
from tests.fakes.training_child import STEPS
from tests.lanes import Hub, assert_whole, eventually, rest, running, some
from tests.native import Upstream
from tests.trainers import Trainer, running_trainer
from worker.lane import Lane
from worker.occasion import Pin
from worker.residency import Slot

SIZE = 300 << 20
"""Bytes of each of the two models, on a device of 1 GiB; a job takes 0.87 GiB at least."""


@pytest.fixture
async def hub(valkey_url: str, upstream: Upstream) -> AsyncIterator[Hub]:
    async with running(valkey_url, upstream, size=SIZE) as hub:
        yield hub


@pytest.fixture
async def trainer(
    hub: Hub, home: Path, database_url: str, valkey_url: str
) -> AsyncIterator[Trainer]:
    async with running_trainer(home, database_url, valkey_url, 0.06) as trainer:
        yield trainer


def rooms(lane: Lane) -> list[Slot]:
    slots = lane._loop.state.slots
    return [slot for name, slot in slots.items() if name.startswith("training:")]


def over(job: Job) -> bool:
    return job.finished_at is not None


async def test_idle_models_make_room_and_come_back(hub: Hub, trainer: Trainer) -> None:
    (lane,) = hub.lanes
    id_ = await trainer.create()
    await trainer.until(id_, lambda job: job.step >= 2)
    (room,) = rooms(lane)
    assert room.state == "ready"
    assert lane._loop.ledger.snapshot().reserved >= room.plan.size
    assert {name for name in hub.ready() if not name.startswith("training:")} < {"m", "e"}
    # It shrank its batch to what the device has.
    assert room.plan.size <= lane._loop.state.capacity
    job = await trainer.until(id_, over)
    assert job.status == "succeeded"
    await eventually(lambda: not rooms(lane), within=30)
    assert_whole(await rest(await hub.ask(20)), 20)


async def test_training_gives_way_to_a_request_and_goes_on(hub: Hub, trainer: Trainer) -> None:
    id_ = await trainer.create()
    await trainer.until(id_, lambda job: job.step >= 2)
    assert_whole(await rest(await hub.ask(20, model="m")), 20)
    job = await trainer.until(id_, over)
    assert job.status == "succeeded"
    assert await trainer.steps(id_) == list(range(1, STEPS + 1))
    words = [event.message for event in await trainer.events(id_)]
    assert any(word.startswith("Made room behind step") for word in words), words


async def test_pinned_models_stay_and_the_job_says_what_it_waits_for(
    hub: Hub, trainer: Trainer
) -> None:
    (lane,) = hub.lanes
    lane._loop.post(Pin(lane._loop.now, "m", True))
    id_ = await trainer.create()
    await trainer.until(id_, lambda job: job.status == "queued")

    def waits(words: list[str]) -> bool:
        return any(word.startswith("Waits for room") and "pinned" in word for word in words)

    while not waits([event.message for event in await trainer.events(id_)]):
        await trainer.until(id_, lambda job: job.status == "queued")
    assert "m" in hub.ready()
    lane._loop.post(Pin(lane._loop.now, "m", False))
    assert (await trainer.until(id_, over)).status == "succeeded"


async def test_a_job_without_room_lets_others_pass(
    valkey_url: str, upstream: Upstream, home: Path, database_url: str
) -> None:
    async with (
        running(valkey_url, upstream, size=100 << 20) as hub,
        running_trainer(home, database_url, valkey_url, 0.02) as trainer,
    ):
        (lane,) = hub.lanes
        lane._loop.post(Pin(lane._loop.now, "m", True))
        large = await trainer.create(rank=30)
        job = await trainer.until(large, lambda job: job.waiting is not None)
        assert "pinned" in str(job.waiting)
        small = [await trainer.create() for _ in range(2)]
        first = await trainer.until(small[0], over)
        second = await trainer.until(small[1], over)
        assert (first.status, second.status) == ("succeeded", "succeeded")
        job = await trainer.job(large)
        assert (job.status, job.place, job.overtaken) == ("queued", 1, 2)
        places = [e.data["place"] for e in await trainer.events(small[1]) if "place" in e.data]
        assert places == [2], "it was told when the queue moved"
        lane._loop.post(Pin(lane._loop.now, "m", False))
        job = await trainer.until(large, over)
        assert (job.status, job.waiting, job.overtaken) == ("succeeded", None, 0)
        words = [event.message for event in await trainer.events(large)]
        waits = [word for word in words if word.startswith("Waits for room")]
        assert len(waits) == len(set(waits)), "each reason is told once"


async def test_a_dead_trainers_room_is_free_again(hub: Hub, trainer: Trainer) -> None:
    (lane,) = hub.lanes
    id_ = await trainer.create()
    await trainer.until(id_, lambda job: job.step >= 2)
    (child,) = trainer.children()
    os.kill(trainer.server.child.pid, signal.SIGKILL)
    await trainer.until_gone(child)
    await eventually(lambda: not rooms(lane), within=30)
    assert lane._loop.ledger.snapshot().quarantines == ()
    assert_whole(await rest(await hub.ask(20)), 20)


async def test_it_stands_still_while_requests_are_served(
    valkey_url: str, upstream: Upstream, home: Path, database_url: str
) -> None:
    """Room for all: nobody has to go, but the requests have the processors."""
    async with (
        running(valkey_url, upstream, size=10 << 20) as hub,
        running_trainer(home, database_url, valkey_url, 0.06) as trainer,
    ):
        id_ = await trainer.create()
        await trainer.until(id_, lambda job: job.step >= 2)
        reply = await hub.ask(600)
        await some(reply, 300)
        before = (await trainer.job(id_)).step
        await some(reply, 200)
        assert (await trainer.job(id_)).step == before < STEPS
        assert await rest(reply)
        assert (await trainer.until(id_, over)).status == "succeeded"
        (lane,) = hub.lanes
        assert {"m", "e"} <= hub.ready()
        assert not any(event.message.startswith("Made room") for event in await trainer.events(id_))
        await eventually(lambda: not rooms(lane), within=30)
