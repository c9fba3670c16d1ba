"""Which adapters are loaded: rule by rule, and what comes of it with many in rotation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.worker.circle import Circle
from worker.rotation import PATIENCE, Loaded, Move, Rotation, decide, usual


def one(**given: Any) -> Loaded:
    return Loaded(**{"since": 0.0, "used": 0.0, **given})


def rotation(bound: int = 2, **given: Any) -> Rotation:
    return Rotation(bound=bound, **{"loaded": {}, "wanted": {}, "load_seconds": 1.0, **given})


def test_room_below_the_bound_goes_to_who_waits_longest() -> None:
    wanted = {"a": 3.0, "b": 1.0, "c": 2.0}
    assert decide(rotation(wanted=wanted), 3.0).load == ("b", "c")
    assert decide(rotation(bound=9, wanted=wanted), 3.0) == Move(load=("b", "c", "a"))
    assert decide(rotation(loaded={"a": one()}), 9.0) == Move()


@pytest.mark.parametrize(
    ("idle", "every", "off"),
    [(3.0, None, 3.0), (1.0, 4.0, 3.0), (5.0, 4.0, 0.0), (9.0, 4.0, 9.0)],
)
def test_the_next_use_is_guessed_from_the_past(idle: float, every: float, off: float) -> None:
    assert one(used=10.0, every=every).off(10.0 + idle) == off
    assert one(used=10.0, every=every, users=1).off(10.0 + idle) == 0


def test_requests_closer_than_a_load_are_one() -> None:
    assert usual(None, 0.5, 1.0) is None
    assert usual(4.0, 0.5, 1.0) == 4.0
    assert usual(None, 6.0, 1.0) == 6.0
    assert usual(4.0, 6.0, 1.0) == 5.0


def test_the_unused_one_whose_next_use_is_farthest_off_gives_way_at_once() -> None:
    loaded = {"soon": one(used=1.0, every=9.5), "late": one(used=9.0, every=9.5)}
    move = decide(rotation(loaded=loaded, wanted={"new": 10.0}), 10.0)
    assert (move.load, move.unload) == (("new",), ("late",))
    used = {"soon": one(used=1.0, every=9.5), "late": one(used=9.0, every=9.5, users=1)}
    move = decide(rotation(loaded=used, wanted={"new": 10.0}), 10.0)
    assert (move.load, move.unload, move.close) == ((), (), ())
    assert move.next_at == 10.0 + PATIENCE


def test_after_some_patience_those_in_use_are_closed_and_end_first() -> None:
    busy = {"a": one(users=2, used=9.9), "b": one(users=1, since=1.0, used=9.9)}
    early = rotation(loaded=busy, wanted={"new": 10.0})
    assert decide(early, 10.0 + PATIENCE - 0.1).close == ()
    move = decide(early, 10.0 + PATIENCE)
    assert (move.load, move.unload, move.close) == ((), (), ("a",))
    closed = {**busy, "a": one(users=1, closed=True)}
    assert decide(rotation(loaded=closed, wanted={"new": 10.0}), 15.0) == Move()
    ended = {**busy, "a": one(closed=True, used=14.9)}
    move = decide(rotation(loaded=ended, wanted={"new": 10.0}), 15.0)
    assert (move.load, move.unload, move.close) == (("new",), ("a",), ())


def test_rounds_are_as_far_apart_as_patience_and_nobody_leaves_who_just_came() -> None:
    busy = {"a": one(users=1), "b": one(users=1)}
    waiting = rotation(loaded=busy, wanted={"new": 0.0}, round_at=7.0)
    assert decide(waiting, 10.0).close == ()
    assert decide(waiting, 7.0 + PATIENCE).close == ("a",)
    fresh = {name: one(users=1, since=9.0) for name in busy}
    move = decide(rotation(loaded=fresh, wanted={"new": 0.0}), 10.0)
    assert (move.close, move.next_at) == ((), 9.0 + PATIENCE)


def test_the_closed_are_opened_again_when_nobody_waits() -> None:
    loaded = {"a": one(users=1, closed=True), "b": one(closed=True)}
    assert set(decide(rotation(loaded=loaded), 1.0).reopen) == {"a", "b"}
    move = decide(rotation(loaded=loaded, wanted={"a": 0.0}), 1.0)
    assert set(move.reopen) == {"a", "b"}


def test_an_engine_with_dear_loads_gets_them_together() -> None:
    loaded = {"a": one(users=1, closed=True), "b": one(closed=True)}
    wanted = {"x": 0.0, "y": 0.0}
    apart = decide(rotation(loaded=loaded, wanted=wanted), 1.0)
    assert (apart.load, apart.unload) == (("x",), ("b",))
    waits = decide(rotation(loaded=loaded, wanted=wanted, together=True), 1.0)
    assert (waits.load, waits.unload, waits.reopen) == ((), (), ())
    ended = {"a": one(closed=True), "b": one(closed=True)}
    both = decide(rotation(loaded=ended, wanted=wanted, together=True), 1.0)
    assert (both.load, set(both.unload)) == (("x", "y"), {"a", "b"})


@settings(max_examples=60, deadline=None)
@given(
    adapters=st.integers(1, 8),
    bound=st.integers(1, 8),
    clients=st.integers(1, 10),
    serve=st.sampled_from([0.01, 0.3, 3.0]),
    places=st.integers(1, 4),
    together=st.booleans(),
    seed=st.one_of(st.none(), st.integers(1, 99)),
)
def test_the_bound_holds_none_in_use_is_unloaded_and_everybody_is_served(
    adapters: int,
    bound: int,
    clients: int,
    serve: float,
    places: int,
    together: bool,
    seed: int | None,
) -> None:
    circle = Circle(
        adapters, bound, clients, serve=serve, places=places, together=together, seed=seed
    )
    circle.run(60)
    rounds = 1 + adapters / bound
    longest = rounds * (2 * PATIENCE + adapters + 2 * serve * 1.2 * (1 + clients / places)) + 5
    assert circle.longest <= longest
    assert all(circle.now - since <= longest for since in circle.waiting.values())


def least_recent(rotation: Rotation, now: float) -> Move:
    """What everybody does: the one used longest ago goes as soon as another is wanted."""
    absent = [name for name in rotation.wanted if name not in rotation.loaded]
    room = rotation.bound - len(rotation.loaded)
    idle = [name for name, one in rotation.loaded.items() if not one.users]
    idle.sort(key=lambda name: rotation.loaded[name].used)
    gone = idle[: max(0, len(absent) - room)]
    return Move(tuple(absent[: room + len(gone)]), tuple(gone))


@pytest.mark.parametrize(
    ("clients", "serve", "least"), [(1, 0.2, 0.6), (4, 0.2, 0.4), (4, 1.0, 0.8), (16, 0.2, 0.8)]
)
def test_no_cliff_where_one_more_is_in_rotation_than_fits(
    clients: int, serve: float, least: float
) -> None:
    """A load takes 1 s; served per second with room for all 16 and for 15, against least recent."""
    whole = Circle(16, 16, clients, serve=serve).run(200)
    ours = Circle(16, 15, clients, serve=serve).run(200)
    theirs = Circle(16, 15, clients, serve=serve, policy=least_recent).run(200)
    print(f"{clients} clients, {serve} s: {whole:.2f}, {ours:.2f}, {theirs:.2f} a second")
    assert ours >= least * whole
    assert ours > theirs
