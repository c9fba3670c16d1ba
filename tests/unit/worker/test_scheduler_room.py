"""Who sleeps and who leaves to make room, and what is asked for by order, on a simulated clock."""

from __future__ import annotations

import msgspec

from tests.unit.worker.stage import Stage, brief, plan, three
from worker.effect import Evict, Refuse, Stop
from worker.occasion import (
    Arrived,
    LoadAsked,
    Loaded,
    Stopped,
    UnloadAsked,
    Waiting,
)
from worker.residency import GIB


def test_sleep_comes_before_eviction_where_host_memory_allows() -> None:
    sleeper = {"can_sleep": True, "asleep_size": GIB // 2, "host_size": 5 * GIB, "wake_seconds": 1}
    stage = Stage({n: plan(6, **sleeper) for n in "abc"}, 10, host=6)
    stage.load("a")
    stage.wait(5)
    assert brief(stage.arrive("b")) == ["evict a", "sleep a"]
    assert brief(stage.finish()) == ["load b"]
    stage.finish()
    stage.end("b")
    stage.wait(5)
    assert brief(stage.arrive("c")) == ["evict b", "stop b"], "host memory is taken by a"
    stage.finish()
    stage.finish()
    stage.end("c")
    stage.wait(5)
    assert brief(stage.arrive("a")) == ["evict c", "stop c"]
    assert brief(stage.finish()) == ["wake a"]
    assert brief(stage.finish()) == ["admit a 1"]


def test_a_sleeper_that_dies_holds_no_more_than_it_held() -> None:
    stage = Stage({"a": plan(6, can_sleep=True, asleep_size=GIB, keep_alive=30)}, 10)
    stage.load("a")
    stage.wait(31)
    stage.finish()
    assert brief(stage.die("a")) == ["stop a"]
    assert stage.device.free == 9 * GIB
    stage.finish()
    assert stage.device.free == 10 * GIB


def test_an_idle_sleeper_goes_after_another_keep_alive() -> None:
    stage = Stage({"a": plan(6, can_sleep=True, host_size=GIB, keep_alive=30)}, 10, host=6)
    stage.load("a")
    assert brief(stage.wait(31)) == ["evict a", "sleep a"]
    stage.finish()
    assert stage.device.free == 10 * GIB
    assert brief(stage.wait(29)) == []
    assert brief(stage.wait(2)) == ["evict a", "stop a"]


def test_the_set_that_is_cheapest_to_bring_back_goes() -> None:
    plans = {"slow": plan(6, 30), "quick": plan(3, 3), "small": plan(2, 2), "new": plan(4)}
    stage = Stage(plans, 11)
    for name in ("slow", "quick", "small"):
        stage.load(name)
    stage.wait(40)
    effects = stage.arrive("new")
    assert brief(effects) == ["evict quick", "evict small", "stop quick"]
    assert isinstance(effects[0], Evict)
    assert effects[0].why == (
        "quick evicted for new, which takes 4.00 GiB where 0.00 GiB is free: frees 3.00 GiB,"
        " back in 3.0 s, idle for 40.0 s; together with small;"
        " the alternative slow would have cost 18.0 against 3.0;"
        " with 4.00 GiB more nothing would have been evicted"
    )
    assert brief(stage.finish()) == ["stop small"]
    assert brief(stage.finish()) == ["load new"]


def test_nothing_goes_that_is_not_needed() -> None:
    stage = Stage({"a": plan(2, 1), "b": plan(5, 50), "c": plan(6)}, 8)
    stage.load("a")
    stage.load("b")
    stage.wait(60)
    assert brief(stage.arrive("c")) == ["evict b", "stop b"]
    assert stage.state("a") == "ready"


def test_an_eviction_is_taken_back_when_nobody_waits_any_more() -> None:
    stage = three()
    stage.load("a")
    stage.arrive("a")
    stage.arrive("b")
    stage.wait(20)
    assert stage.state("a") == "draining"
    assert brief(stage.feed(Waiting(stage.now, "b", "interactive", 0, 0))) == ["keep a"]
    assert brief(stage.arrive("a") + stage.end("a")) == ["admit a 1"]


def test_a_small_model_loads_beside_the_room_a_large_one_waits_for() -> None:
    stage = Stage({"a": plan(7), "big": plan(8), "tiny": plan(1), "mid": plan(3)}, 10)
    stage.load("a")
    stage.arrive("a")
    stage.arrive("big")
    stage.wait(20)
    assert brief(stage.arrive("mid")) == [], "3 fit now, but big would not fit beside them"
    assert brief(stage.arrive("tiny")) == ["load tiny"]


def test_who_waits_past_the_limit_is_refused() -> None:
    stage = three()
    stage.load("a")
    stage.arrive("a")
    stage.arrive("b")
    effects = [e for e in stage.wait(600) if isinstance(e, Refuse)]
    assert [(e.model, e.code, e.service, e.before) for e in effects] == [
        ("b", "expired", "interactive", 0.0)
    ]
    assert stage.state("a") == "ready"


def test_unload_serves_who_waits_first() -> None:
    stage = three()
    stage.load("a")
    stage.arrive("a")
    stage.arrive("a")
    assert brief(stage.feed(UnloadAsked(stage.now, "a"))) == ["evict a"]
    assert brief(stage.end("a")) == ["admit a 1"]
    assert brief(stage.end("a")) == ["stop a"]
    assert brief(stage.finish()) == []


def test_unload_of_a_loading_model_takes_effect_when_it_is_ready() -> None:
    stage = three()
    stage.feed(LoadAsked(0, "a"))
    stage.feed(UnloadAsked(0, "a"))
    assert brief(stage.finish()) == ["evict a", "stop a"]


def test_load_asked_is_a_waiter() -> None:
    stage = three()
    stage.load("a")
    stage.wait(5)
    assert brief(stage.feed(LoadAsked(stage.now, "b"))) == ["evict a", "stop a"]
    stage.finish()
    assert brief(stage.finish()) == []
    assert stage.state("b") == "ready"


def test_a_measurement_above_the_device_is_mended() -> None:
    stage = Stage({n: plan(4) for n in "ab"}, 10)
    stage.load("a")
    stage.arrive("b")
    effects = stage.feed(Loaded(0, "b", 7 * GIB, 3.0))
    assert brief(effects) == ["admit b 1", "evict a", "stop a"]
    assert stage.device.slots["b"].plan.load_seconds == 3.0


def test_a_late_event_does_not_turn_time_back() -> None:
    stage = three()
    stage.feed(Arrived(50, "a", "interactive"))
    stage.feed(Arrived(40, "a", "interactive"))
    assert stage.device.now == 50


def test_models_beyond_counting_are_chosen_without_superfluous_members() -> None:
    plans = {f"m{i:02}": plan(1 + i % 3, 1 + i % 7) for i in range(20)}
    stage = Stage({**plans, "big": plan(30)}, sum(p.size for p in plans.values()) / GIB)
    for name in plans:
        stage.load(name)
    stage.wait(60)
    stage.arrive("big")
    [*victims] = [e for e in stage.seen if isinstance(e, Evict)]
    freed = sum(plans[e.model].size for e in victims)
    assert freed >= 30 * GIB
    assert all(freed - plans[e.model].size < 30 * GIB for e in victims)


def test_the_state_survives_json() -> None:
    stage = three()
    stage.load("a")
    stage.arrive("b")
    raw = msgspec.json.encode(stage.device)
    assert msgspec.json.decode(raw, type=type(stage.device)) == stage.device


def test_stop_answers_twice_do_no_harm() -> None:
    stage = three()
    stage.load("a")
    stage.wait(5)
    stage.arrive("b")
    assert stage.did(Stop) == ["a"]
    stage.die("a")
    assert brief(stage.feed(Stopped(stage.now, "a"))) == ["load b"]
