from __future__ import annotations

import pytest

from shared.settings import SettingsError
from tests.unit.worker.stage import Stage, brief, plan, three
from worker.effect import Evict, Load, Refuse
from worker.occasion import (
    DeviceBytes,
    LoadAsked,
    Pin,
    Planned,
    Stopped,
    UnloadAsked,
    Waiting,
)
from worker.residency import GIB, Rules


def test_a_b_a_a_c_swaps_twice_not_four_times() -> None:
    stage = three()
    for name in "abaac":
        stage.arrive(name)
    assert brief(stage.finish()) == ["admit a 1"]
    for _ in range(3):
        stage.end("a")
    stage.wait(4)
    while stage.did(Load) != ["a", "b", "c"]:
        stage.finish()
        if stage.device.work is None:
            stage.end(next(n for n, s in stage.device.slots.items() if s.serving))
            stage.wait(4)
    assert stage.did(Evict) == ["a", "b"]


def test_what_waits_for_a_loading_model_is_a_reference() -> None:
    stage = three()
    stage.arrive("a")
    stage.arrive("b")
    stage.wait(60)
    assert brief(stage.finish()) == ["admit a 1"]
    assert brief(stage.wait(500)) == ["evict a"]
    assert brief(stage.end("a")) == ["stop a"]


def test_a_serving_model_is_closed_for_one_that_is_due_and_stops_when_it_has_ended() -> None:
    stage = three(places=4)
    stage.load("a")
    stage.arrive("a")
    stage.arrive("b")
    assert brief(stage.arrive("a")) == ["admit a 1"]
    assert brief(stage.wait(19.9)) == []
    assert brief(stage.wait(0.2)) == ["evict a"]
    assert brief(stage.arrive("a")) == []
    assert brief(stage.end("a")) == []
    assert brief(stage.end("a")) == ["stop a"]
    assert brief(stage.finish()) == ["load b"]
    assert brief(stage.finish()) == ["admit b 1"]


def test_waiters_of_a_closed_model_are_served_before_it_leaves() -> None:
    stage = three()
    stage.load("a")
    stage.arrive("a")
    stage.arrive("b")
    stage.wait(10)
    stage.arrive("a")
    stage.arrive("a", "batch")
    assert brief(stage.wait(10)) == ["evict a"]
    assert stage.device.slots["a"].counted == 1, "the batch waiter is less urgent than b's"
    stage.arrive("a")
    assert brief(stage.end("a")) == ["admit a 1"]
    assert brief(stage.end("a")) == ["stop a"]


def test_a_loaded_model_stays_for_its_minimum() -> None:
    stage = Stage({n: plan(6) for n in "ab"}, 10, rules=Rules(linger=0))
    stage.load("a")
    assert brief(stage.arrive("b")) == []
    assert stage.next_at == pytest.approx(2.0)
    assert brief(stage.wait(1.9)) == []
    assert brief(stage.wait(0.2)) == ["evict a", "stop a"]


def test_an_idle_model_lingers_for_a_share_of_its_load_time() -> None:
    stage = Stage({"a": plan(6, 20), "b": plan(6)}, 10, rules=Rules(linger=0.5))
    stage.load("a")
    stage.wait(30)
    stage.arrive("a")
    stage.end("a")
    stage.arrive("b")
    assert brief(stage.wait(9.9)) == []
    assert brief(stage.wait(0.2)) == ["evict a", "stop a"]


def test_idle_time_counts_from_the_end_of_the_last_request() -> None:
    stage = Stage({"a": plan(6, keep_alive=30)}, 10)
    stage.arrive("a")
    stage.finish()
    assert brief(stage.wait(500)) == []
    stage.end("a")
    assert brief(stage.wait(29)) == []
    assert brief(stage.wait(2)) == ["evict a", "stop a"]


def test_an_idle_model_whose_engine_was_not_touched_yet_stays_for_who_comes() -> None:
    stage = Stage({"a": plan(2, keep_alive=30), "b": plan(2), "c": plan(2, keep_alive=30)}, 10)
    stage.load("a")
    stage.load("c")
    assert brief(stage.wait(31)) == ["evict a", "evict c", "stop a"]
    assert brief(stage.arrive("c")) == ["keep c", "admit c 1"]
    assert brief(stage.arrive("a")) == [], "its engine is stopping"
    assert brief(stage.finish()) == ["load a"]


def test_a_request_sets_keep_alive_until_the_model_has_gone() -> None:
    stage = Stage({"a": plan(6, keep_alive=30)}, 10)
    stage.load("a")
    stage.arrive("a")
    stage.end("a", keep_alive=-1)
    assert brief(stage.wait(1000)) == []
    stage.arrive("a")
    assert brief(stage.end("a", keep_alive=0)) == ["evict a", "stop a"]
    stage.finish()
    stage.load("a")
    assert brief(stage.wait(29)) == []
    assert brief(stage.wait(2)) == ["evict a", "stop a"]


def test_a_pinned_model_loads_by_itself_and_is_never_evicted() -> None:
    stage = Stage({n: plan(6, keep_alive=5) for n in "ab"}, 10, pinned=frozenset("a"))
    assert brief(stage.feed(Waiting(0, "b", "batch", 0, 0))) == ["load a"]
    stage.finish()
    assert brief(stage.wait(1000)) == []
    [refused] = stage.arrive("b")
    assert isinstance(refused, Refuse)
    assert refused.why == (
        "b needs 6.00 GiB, the device has 10.00 GiB, 6.00 GiB pinned: 4.00 GiB can be had"
    )


def test_too_much_pinned_is_an_error_at_start_and_at_the_pin() -> None:
    with pytest.raises(SettingsError, match=r"need 12.00 GiB and the device has 10.00 GiB: a 6.00"):
        Stage({n: plan(6) for n in "ab"}, 10, pinned=frozenset("ab"))
    stage = three()
    stage.feed(Pin(0, "a", True))
    [refused] = stage.feed(Pin(0, "b", True))
    assert isinstance(refused, Refuse)
    assert refused.code == "pinned_over_budget"
    assert refused.why == "b needs 6.00 GiB and 4.00 GiB can be had beside what is pinned"


def test_what_cannot_fit_an_empty_device_is_refused_at_once_with_the_numbers() -> None:
    stage = Stage({"a": plan(12), "b": plan(6)}, 10)
    stage.load("b")
    [refused] = stage.arrive("a")
    assert isinstance(refused, Refuse)
    assert refused.why == "a needs 12.00 GiB, the device has 10.00 GiB: 10.00 GiB can be had"
    assert stage.state("b") == "ready"


def test_quarantined_bytes_are_not_available() -> None:
    stage = three()
    stage.feed(DeviceBytes(0, 10 * GIB, GIB, 4 * GIB, 0))
    [refused] = stage.arrive("a")
    assert isinstance(refused, Refuse)
    assert refused.why.endswith(
        "1.00 GiB used by others, 4.00 GiB quarantined: 5.00 GiB can be had"
    )
    stage.feed(DeviceBytes(0, 10 * GIB, GIB, 0, 0))
    assert brief(stage.arrive("a")) == ["load a"]


def test_what_others_take_drives_nobody_out_and_is_not_begun_in() -> None:
    stage = Stage({"a": plan(4), "b": plan(4), "c": plan(4)}, 10)
    stage.load("a")
    stage.load("b")
    stage.wait(60)
    assert stage.feed(DeviceBytes(stage.now, 10 * GIB, 5 * GIB, 0, 0)) == []
    assert [stage.state(name) for name in "ab"] == ["ready", "ready"]
    assert brief(stage.arrive("c")) == ["evict a", "evict b", "stop a"]


def test_own_bytes_over_the_device_are_mended_whatever_others_use() -> None:
    stage = Stage({"a": plan(4), "b": plan(4)}, 10)
    stage.load("a")
    stage.load("b")
    stage.feed(DeviceBytes(stage.now, 10 * GIB, 9 * GIB, 0, 0))
    assert brief(stage.feed(Planned(stage.now, "b", plan(7)))) == ["evict a", "stop a"]


def test_a_load_that_lost_its_room_before_it_began_is_decided_anew() -> None:
    stage = Stage({"a": plan(4), "b": plan(4)}, 10)
    stage.load("b")
    assert brief(stage.arrive("a")) == ["load a"]
    stage.wait(60)
    assert stage.feed(DeviceBytes(stage.now, 10 * GIB, 4 * GIB, 0, 0)) == []
    assert brief(stage.feed(Stopped(stage.now, "a"))) == ["evict b", "stop b"]
    assert brief(stage.finish()) == ["load a"]
    assert brief(stage.finish()) == ["admit a 1"]


def test_a_failed_load_releases_everything_and_its_waiters_get_the_reason() -> None:
    stage = three()
    stage.arrive("a")
    stage.arrive("b")
    effects = stage.fail("CUDA out of memory")
    assert brief(effects) == ["refuse a failed", "load b"]
    assert isinstance(effects[0], Refuse)
    assert effects[0].retry_after == 1.0
    assert "CUDA out of memory" in effects[0].why
    assert brief(stage.arrive("a")) == ["refuse a failed"]


def test_back_off_doubles_to_its_bound_and_is_forgotten_after_an_answer() -> None:
    stage = three()
    pauses = []
    for _ in range(11):
        stage.arrive("a")
        stage.fail()
        pauses.append(stage.device.slots["a"].retry_at - stage.now)
        stage.wait(301)
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    stage.load("a")
    assert stage.device.slots["a"].failures == 0


def test_a_dead_engine_is_cleaned_up_and_started_again_the_second_time_with_a_pause() -> None:
    stage = three()
    stage.load("a")
    stage.arrive("a")
    assert brief(stage.die("a")) == ["stop a"]
    assert stage.device.free == 4 * GIB, "its bytes count until they are back"
    stage.arrive("a")
    assert brief(stage.finish()) == ["load a"]
    for pause in (1.0, 2.0, 4.0):
        stage.finish()
        stage.die("a")
        stage.arrive("a")
        assert brief(stage.finish()) == []
        assert stage.wait(pause - 0.1) == []
        assert brief(stage.wait(0.2)) == ["load a"]
    stage.finish()
    stage.die("a")
    stage.arrive("a")
    assert brief(stage.finish()) == ["refuse a failed"]
    assert brief(stage.wait(9)) == []
    assert brief(stage.arrive("a")) == ["load a"]


def test_a_model_that_ran_before_is_waited_for_when_its_start_fails() -> None:
    stage = three()
    stage.load("a")
    stage.feed(UnloadAsked(stage.now, "a"))
    stage.finish()
    stage.arrive("a")
    assert brief(stage.fail()) == []
    assert brief(stage.wait(1)) == ["load a"]
    assert brief(stage.finish()) == ["admit a 1"]


def test_an_order_to_load_is_tried_once_whether_the_model_ran_before_or_not() -> None:
    stage = three()
    stage.load("a")
    stage.feed(UnloadAsked(stage.now, "a"))
    stage.finish()
    stage.feed(LoadAsked(stage.now, "a"))
    assert brief(stage.fail()) == ["refuse a failed"]


def test_one_start_or_stop_at_a_time() -> None:
    stage = Stage({n: plan(2) for n in "abc"}, 10)
    assert brief(stage.arrive("a")) == ["load a"]
    assert brief(stage.arrive("b") + stage.arrive("c") + stage.wait(90)) == []
    assert brief(stage.finish()) == ["admit a 1", "load b"]
    assert brief(stage.fail()) == ["refuse b failed", "load c"]
