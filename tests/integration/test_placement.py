"""Several workers of one lane: who loads what, who serves whom, and what moves when one goes."""

from __future__ import annotations

import asyncio

import pytest

from gateway import recovery
from shared.settings import Model
from tests.lanes import PLACES, Hub, assert_whole, eventually, rest, running, some
from tests.loops import GIB
from tests.native import Upstream
from worker import custody
from worker.custody import Share
from worker.effect import Load
from worker.lane import Lane
from worker.occasion import LoadAsked


def catalog(upstream: Upstream, names: str, *, preload: bool, pin: str = "") -> dict[str, Model]:
    """Models of which a device has room for one."""
    url = f"unix:{upstream.path}"
    return {
        name: Model(engine="openai", url=url, parallel=PLACES, preload=preload, pin=name in pin)
        for name in names
    }


def owners(hub: Hub, model: str) -> list[Lane]:
    return [lane for lane in hub.lanes if lane._loop.slot(model).state != "absent"]


def loads(lane: Lane, model: str) -> int:
    """How often a worker decided to load it."""
    effects = [effect for decision in lane._loop.journal.last for effect in decision.effects]
    return sum(isinstance(effect, Load) and effect.model == model for effect in effects)


async def test_each_model_is_where_it_fits_and_stays_there(
    valkey_url: str, upstream: Upstream
) -> None:
    models = catalog(upstream, "ab", preload=False)
    async with running(valkey_url, upstream, lanes=2, models=models, size=GIB) as hub:
        assert not owners(hub, "a")
        burst = await asyncio.gather(*(hub.ask(20, model="a", key=f"k{n}") for n in range(8)))
        for items in await asyncio.gather(*map(rest, burst)):
            assert_whole(items, 20)
        (first,) = owners(hub, "a")
        assert_whole(await rest(await hub.ask(20, model="b")), 20)
        (second,) = owners(hub, "b")
        assert second is not first
        for _ in range(3):
            for model, owner in (("a", first), ("b", second)):
                reply = await hub.ask(5, model=model)
                assert_whole(await rest(reply), 5)
                assert reply.worker == owner.name
                assert reply.producer == (owner.name, 1)
        assert [loads(first, "a"), loads(second, "b")] == [1, 1]


async def test_a_gateway_looks_before_a_model_is_brought(
    valkey_url: str, upstream: Upstream
) -> None:
    """What it saw last is old: another worker has come and has the model."""
    models = catalog(upstream, "ab", preload=False)
    async with running(valkey_url, upstream, models=models, size=GIB) as hub:
        (first,), (dispatch,) = hub.lanes, hub.dispatches
        await hub.load(first, "a")
        (watch,) = [task for task in dispatch._tasks if task.get_name() == "watch"]
        watch.cancel()
        second = await hub.lane()
        second._loop.post(LoadAsked(second._loop.now, "b"))
        await eventually(lambda: second._loop.slot("b").state == "ready")
        await hub.told(second)
        asked = await asyncio.gather(*(hub.ask(5, model="b") for _ in range(PLACES)))
        for items in await asyncio.gather(*map(rest, asked)):
            assert_whole(items, 5)
        assert {reply.worker for reply in asked} == {second.name}
        assert (loads(first, "b"), first._loop.slot("a").state) == (0, "ready")


async def test_what_a_worker_had_moves_when_it_leaves(valkey_url: str, upstream: Upstream) -> None:
    models = catalog(upstream, "ab", preload=False)
    async with running(valkey_url, upstream, lanes=2, models=models, size=GIB) as hub:
        asked = [await hub.ask(400, model="a", key=f"k{n}") for n in range(PLACES + 2)]
        begun = [await some(reply, 20) for reply in asked[:PLACES]]
        (owner,) = owners(hub, "a")
        await hub.stop_lane(owner)
        for before, reply in zip([*begun, [], []], asked, strict=True):
            assert_whole(before + await rest(reply), 400)
        (other,) = [lane for lane in hub.lanes if lane is not owner]
        assert other in owners(hub, "a")


async def test_a_call_that_is_lost_is_made_again(
    valkey_url: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "UNHEARD", 0.5)
    models = catalog(upstream, "a", preload=False)
    async with running(valkey_url, upstream, lanes=2, models=models) as hub:
        lost: list[str] = []
        for lane in hub.lanes:
            hears = lane._listening
            arrived = hears._arrived
            hears._arrived = lambda name, go=arrived: go(name) if lost else lost.append(name)  # type: ignore[misc]
        assert_whole(await rest(await hub.ask(20, model="a")), 20)
        assert len(lost) == 1
        assert len(owners(hub, "a")) == 1


async def test_what_is_loaded_unasked_has_one_keeper(
    valkey_url: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(custody, "LEFT_OVER", 1.0)
    models = catalog(upstream, "ab", preload=True, pin="a")
    async with running(valkey_url, upstream, lanes=0, models=models, size=GIB) as hub:
        one, two = await hub.lane(Share(0, 2)), await hub.lane(Share(1, 2))
        await eventually(lambda: hub.ready() == {"a", "b"})
        assert (owners(hub, "a"), owners(hub, "b")) == ([one], [two])
        assert one._loop.slot("a").pinned
        await hub.stop_lane(one)
        await eventually(lambda: two._loop.slot("a").state == "ready")
        assert two._loop.slot("a").pinned, "a pinned model moves"
        assert two._loop.slot("b").state == "absent", "there is room for one"


async def test_pinned_models_go_where_they_fit_together(
    valkey_url: str, upstream: Upstream
) -> None:
    """Not by turns: those who take turns would leave one out."""
    models = catalog(upstream, "abc", preload=False, pin="abc")
    async with running(valkey_url, upstream, lanes=0, models=models, size=GIB // 2) as hub:
        one = await hub.lane(Share(0, 2, frozenset("a")))
        two = await hub.lane(Share(1, 2, frozenset("bc")))
        await eventually(lambda: hub.ready() == {"a", "b", "c"}, custody.LEFT_OVER - 1)
        assert [owners(hub, name) for name in "abc"] == [[one], [two], [two]]


async def test_what_does_not_fit_is_left_to_others(
    valkey_url: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(custody, "LEFT_OVER", 0.5)
    models = catalog(upstream, "abc", preload=True)
    async with running(valkey_url, upstream, lanes=0, models=models, size=GIB // 2) as hub:
        one = await hub.lane(Share(0, 3))
        await eventually(lambda: hub.ready() == {"a", "b"})
        two = await hub.lane(Share(1, 3))
        await eventually(lambda: hub.ready() == {"a", "b", "c"})
        assert [len(owners(hub, name)) for name in "abc"] == [1, 1, 1]
        assert owners(hub, "c") == [two]
        assert owners(hub, "a") == [one]
