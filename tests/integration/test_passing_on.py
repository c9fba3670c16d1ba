"""A worker that cannot have a model leaves it to another of its lane; each tries once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from shared.settings import Model
from shared.wire.event import Failed
from tests import native
from tests.lanes import PLACES, Hub, assert_whole, eventually, rest, running
from tests.native import Upstream
from worker.effect import Load
from worker.lane import Lane


@pytest.fixture
def other(programs: Path) -> Iterator[Upstream]:
    """A slow one that a test may end."""
    with native.upstream(programs, programs / "t", "--pace-ms", "40") as running:
        yield running


def catalog(upstream: Upstream) -> dict[str, Model]:
    url = f"unix:{upstream.path}"
    return {"m": Model(engine="openai", url=url, parallel=PLACES, preload=False)}


def loads(lane: Lane) -> int:
    """How often a worker decided to load the model."""
    effects = [effect for decision in lane._loop.journal.last for effect in decision.effects]
    return sum(isinstance(effect, Load) for effect in effects)


def tune(lane: Lane, *, load_seconds: float = 0.1, **rules: float) -> None:
    loop = lane._loop
    slot = loop.slot("m")
    quicker = replace(slot, plan=replace(slot.plan, load_seconds=load_seconds))
    changed = replace(loop.state.rules, **rules)
    loop.state = replace(loop.state, slots={"m": quicker}, rules=changed)


def quickest(hub: Hub) -> str | None:
    """The worker that has it loaded soonest, as the gateway sees it; None: all are alike."""
    seconds = {w.models["m"].bring_seconds: w.name for w in hub.dispatches[0].sightings.workers()}
    return seconds[min(seconds)] if len(seconds) > 1 else None


async def test_a_load_that_fails_is_left_to_another_worker(
    valkey_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    async with running(valkey_url, upstream, lanes=0, models=catalog(upstream)) as hub:
        whole, broken = await hub.lane(), await hub.lane(url=f"unix:{tmp_path}/nobody")
        tune(broken, load_seconds=0.01, first_pause=30.0)
        await eventually(lambda: quickest(hub) == broken.name)
        asked = await asyncio.gather(*(hub.ask(20, key=f"k{n}") for n in range(PLACES + 4)))
        for items in await asyncio.gather(*map(rest, asked)):
            assert_whole(items, 20)
        assert {reply.producer for reply in asked} == {(whole.name, 1)}
        assert (loads(broken), loads(whole)) == (1, 1)


async def test_a_load_that_fails_everywhere_is_told_after_each_has_tried(
    valkey_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    async with running(valkey_url, upstream, lanes=0, models=catalog(upstream)) as hub:
        lanes = [await hub.lane(url=f"unix:{tmp_path}/nobody") for _ in range(3)]
        for lane in lanes:
            tune(lane, first_pause=30.0)
        await eventually(lambda: len(hub.dispatches[0].sightings.workers()) == 3)
        asked = await asyncio.gather(*(hub.ask(20, key=f"k{n}") for n in range(PLACES + 4)))
        for items in await asyncio.gather(*map(rest, asked)):
            (failed,) = items
            assert isinstance(failed, Failed)
            assert "does not answer" in failed.message
        assert [loads(lane) for lane in lanes] == [1, 1, 1]


async def test_an_answer_that_was_begun_goes_on_where_its_model_can_be_had(
    valkey_url: str, upstream: Upstream, other: Upstream
) -> None:
    async with running(valkey_url, upstream, lanes=0, models=catalog(upstream)) as hub:
        broken = await hub.lane(url=f"unix:{other.path}")
        await hub.load(broken, "m")
        whole = await hub.lane()
        tune(broken, patience=0.0)
        asked = [await hub.ask(400, key=f"k{n}") for n in range(PLACES + 2)]
        await eventually(lambda: sum(reply.next > 5 for reply in asked) == PLACES)
        other.process.kill()
        for reply in asked:
            assert_whole(await rest(reply), 400)
        producers = {reply.producer[0] for reply in asked if reply.producer is not None}
        assert producers == {whole.name}
        assert loads(whole) == 1
