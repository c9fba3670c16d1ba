from __future__ import annotations

import msgspec
import pytest

from shared.settings import SettingsError
from tests.unit.worker.stage import Stage, brief, plan
from worker.effect import Evict, Forget, Load, Refuse, Stop
from worker.occasion import (
    Arrived,
    DeviceBytes,
    LoadAsked,
    Loaded,
    Pin,
    Planned,
    Restored,
    Stopped,
    UnloadAsked,
    Waiting,
    Withdrawn,
)
from worker.residency import GIB, Rules


def three(capacity: float = 10, **more: object) -> Stage:
    """Any one of a, b, c fits, no two do."""
    return Stage({name: plan(6, **more) for name in "abc"}, capacity)


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
