"""Models that are withdrawn from a device and restored to it, on a simulated clock."""

from __future__ import annotations

from tests.unit.worker.stage import brief, plan, three
from worker.effect import Forget
from worker.occasion import (
    LoadAsked,
    Pin,
    Planned,
    Restored,
    Withdrawn,
)


def test_a_withdrawn_model_serves_to_the_end_and_tells_who_waits() -> None:
    stage = three(places=1)
    stage.load("a")
    stage.arrive("a")
    stage.arrive("a")
    assert brief(stage.feed(Withdrawn(stage.now, "a"))) == ["evict a", "refuse a gone"]
    assert brief(stage.arrive("a")) == ["refuse a gone"]
    assert brief(stage.feed(LoadAsked(stage.now, "a"))) == ["refuse a gone"]
    assert brief(stage.feed(Pin(stage.now, "a", True))) == ["refuse a gone"]
    assert brief(stage.end("a")) == ["stop a"]
    assert stage.finish() == [Forget("a")]
    assert set(stage.device.slots) == {"b", "c"}
    stage.feed(Planned(stage.now, "a", plan(6)))
    assert brief(stage.arrive("a")) == ["load a"]


def test_one_that_loads_is_withdrawn_when_it_is_ready() -> None:
    stage = three()
    stage.arrive("a")
    stage.arrive("b")
    assert brief(stage.feed(Withdrawn(stage.now, "a"))) == ["refuse a gone"]
    assert brief(stage.finish()) == ["evict a", "stop a"]
    assert brief(stage.finish()) == ["load b", "keep a"]
    assert stage.did(Forget) == ["a"]


def test_what_is_absent_or_failed_is_forgotten_at_once_and_room_is_not_made_for_it() -> None:
    stage = three()
    stage.load("a")
    stage.wait(10)
    stage.arrive("b")
    assert stage.device.swaps != ()
    stage.feed(Withdrawn(stage.now, "b"))
    assert stage.did(Forget) == ["b"]
    assert stage.device.swaps == ()
    stage.finish()
    stage.arrive("c")
    stage.fail()
    stage.feed(Withdrawn(stage.now, "c"))
    assert set(stage.device.slots) == {"a"}


def test_what_failed_is_tried_at_once_when_its_cause_is_over() -> None:
    stage = three()
    for _ in range(4):
        stage.arrive("a")
        stage.fail("the server is away")
        stage.wait(30)
    stage.arrive("a")
    stage.fail("the server is away")
    assert brief(stage.arrive("a")) == ["refuse a failed"]
    assert stage.feed(Restored(stage.now, "a")) == []
    assert brief(stage.arrive("a")) == ["load a"]
    stage.feed(Restored(stage.now, "a"))
    assert stage.state("a") == "loading"
