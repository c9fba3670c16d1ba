"""What runs in the background: it comes into room that nobody uses, and goes for anybody."""

from __future__ import annotations

from tests.unit.worker.stage import Stage, brief, plan
from worker.occasion import LoadAsked, Pin


def trained(capacity: float = 10, **more: object) -> Stage:
    """A job beside `a` and `b`: it fits beside one of them, not beside both."""
    plans = {"a": plan(3, 2.0, **more), "b": plan(3, 2.0, **more)}
    return Stage({**plans, "job": plan(6, 20.0, background=True)}, capacity)


def ask(stage: Stage) -> list[str]:
    return brief(stage.feed(LoadAsked(stage.now, "job")))


def test_it_comes_where_there_is_room() -> None:
    stage = trained()
    assert ask(stage) == ["load job"]
    stage.finish()
    assert stage.state("job") == "ready"
    stage.wait(100_000)
    assert stage.state("job") == "ready"


def test_an_idle_model_makes_room_for_it() -> None:
    stage = trained()
    stage.load("a")
    stage.load("b")
    stage.wait(60)
    assert ask(stage) == ["evict a", "stop a"]
    assert brief(stage.finish()) == ["load job"]


def test_it_never_closes_a_model_in_use() -> None:
    stage = trained()
    for name in "ab":
        stage.load(name)
        stage.arrive(name)
    stage.wait(60)
    assert ask(stage) == []
    assert brief(stage.wait(1_000_000)) == []
    stage.end("a")
    assert brief(stage.wait(60)) == ["evict a", "stop a"]


def test_a_pinned_model_stays() -> None:
    stage = trained(capacity=8)
    stage.load("a")
    stage.feed(Pin(stage.now, "a", True))
    stage.wait(60)
    assert ask(stage) == ["refuse job too_large"]
    assert stage.state("a") == "ready"


def test_it_goes_at_once_for_a_request_and_comes_back_when_that_is_over() -> None:
    stage = trained(capacity=8)
    ask(stage)
    stage.finish()
    # No time has passed: its own coming does not protect it.
    assert brief(stage.arrive("a")) == ["evict job", "stop job"]
    assert brief(stage.finish()) == ["load a"]
    assert brief(stage.finish()) == ["admit a 1"]
    assert ask(stage) == []
    stage.end("a")
    assert brief(stage.wait(60)) == ["evict a", "stop a"]
    assert brief(stage.finish()) == ["load job"]


def test_a_request_beside_it_leaves_it_where_it_is() -> None:
    stage = trained()
    ask(stage)
    stage.finish()
    assert brief(stage.arrive("a")) == ["load a"]
    stage.finish()
    stage.end("a")
    # The second model takes the idle one's room rather than the job's: that is dearer to bring.
    stage.wait(60)
    assert brief(stage.arrive("b")) == ["evict a", "stop a"]
    assert stage.state("job") == "ready"
