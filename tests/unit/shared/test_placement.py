from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.placement import Placed, failed, pinned, place, taken
from shared.wire.node import DeviceReport, ModelReport, ModelState, WorkerState

GIB = 1 << 30
NOW = 1_000_000
STATES: tuple[ModelState, ...] = ("absent", "loading", "ready", "asleep", "draining", "failed")


def model(state: ModelState = "absent", size: int = 4, **more: Any) -> ModelReport:
    """A model of so many GiB, with two places."""
    held = 0 if state in ("absent", "failed") else size
    values = {"bring_seconds": 5.0, "places": 2, "since_ms": NOW, "reserved": held * GIB, **more}
    return ModelReport(state=state, size=size * GIB, **values)


def worker(name: str, free: int = 16, budget: int = 16, **models: ModelReport) -> WorkerState:
    device = DeviceReport(
        name=f"cuda:{name}",
        kind="cuda",
        total=budget * GIB,
        budget=budget * GIB,
        free=free * GIB,
    )
    return WorkerState(
        name=name,
        lane="gpu",
        host="h",
        pid=1,
        started_ms=0,
        at_ms=NOW,
        running=0,
        device=device,
        models=models,
    )


def test_nobody_there() -> None:
    assert place([], "m", NOW) is None
    assert place([worker("a", other=model())], "m", NOW) is None


def test_a_worker_that_is_alone_is_called_whatever_it_says() -> None:
    alone = worker("a", free=0, m=model("failed", retry_ms=NOW + 1))
    assert place([alone], "m", NOW) == Placed("a", "no other worker serves it", brings=True)


@pytest.mark.parametrize(
    ("state", "waiting", "brings"),
    [
        ("ready", 0, False),
        ("ready", 9, False),
        ("loading", 0, False),
        ("absent", 1, False),
        ("absent", 0, True),
        ("asleep", 0, True),
    ],
)
@pytest.mark.parametrize("count", [1, 2])
def test_whether_it_has_to_be_brought(
    state: ModelState, waiting: int, brings: bool, count: int
) -> None:
    workers = [worker(name, m=model(state, waiting=waiting)) for name in "ab"[:count]]
    placed = place(workers, "m", NOW)
    assert placed is not None
    assert placed.brings is brings


CASES = {
    "ready beats free bytes": (
        worker("a", m=model()),
        worker("b", free=0, m=model("ready")),
        "ready with 2 of 2",
    ),
    "the more places": (
        worker("a", m=model("ready", serving=1)),
        worker("b", m=model("ready")),
        "ready with 2 of 2",
    ),
    "full, but an empty one would have to load": (
        worker("a", m=model()),
        worker("b", m=model("ready", serving=2)),
        "ready, 0 wait",
    ),
    "the shorter line": (
        worker("a", m=model("ready", serving=2, waiting=3)),
        worker("b", m=model("ready", serving=2, waiting=1)),
        "ready, 1 wait",
    ),
    "a load that is under way": (
        worker("a", m=model()),
        worker("b", free=2, m=model("loading")),
        "loading and wanted",
    ),
    "the load that began first": (
        worker("a", m=model("loading")),
        worker("b", m=model("loading", since_ms=NOW - 3000)),
        "loading and wanted",
    ),
    "wanted while it drains": (
        worker("a", m=model()),
        worker("b", m=model("draining", waiting=1)),
        "draining and wanted",
    ),
    "asleep": (
        worker("a", m=model()),
        worker("b", m=model("asleep", reserved=GIB, bring_seconds=1.0)),
        "asleep, 1.0 s",
    ),
    "asleep, but no room to wake": (
        worker("b", m=model()),
        worker("a", free=2, m=model("asleep", reserved=GIB)),
        "absent, 5.0 s",
    ),
    "it fits": (
        worker("a", free=2, m=model(), other=model("ready", 14)),
        worker("b", free=4, m=model()),
        "absent, 5.0 s",
    ),
    "it fits on both, and loads faster": (
        worker("a", m=model()),
        worker("b", m=model(bring_seconds=2.0)),
        "absent, 2.0 s",
    ),
    "more room": (worker("a", free=8, m=model()), worker("b", free=9, m=model()), "absent"),
    "idle models can leave": (
        worker("a", free=0, m=model(), other=model("ready", 16, serving=1)),
        worker("b", free=0, m=model(), other=model("ready", 16)),
        "idle models leave",
    ),
    "the one in use can leave, the pinned one not": (
        worker("a", free=0, m=model(), other=model("ready", 16, pinned=True)),
        worker("b", free=0, m=model(), other=model("ready", 16, serving=1)),
        "in use",
    ),
    "it failed elsewhere": (
        worker("a", m=model("failed", retry_ms=NOW + 9_000)),
        worker("b", free=0, m=model(), other=model("ready", 16, serving=1)),
        "in use",
    ),
    "its pause is over": (
        worker("a", free=0, m=model(), other=model("ready", 16)),
        worker("b", m=model("failed", retry_ms=NOW)),
        "failed, 5.0 s",
    ),
    "too large": (
        worker("a", budget=2, free=2, m=model()),
        worker("b", free=0, m=model(), other=model("ready", 16, serving=1)),
        "in use",
    ),
    "too large for both: where more is missing nobody is called": (
        worker("a", budget=2, free=2, m=model()),
        worker("b", budget=3, free=3, m=model()),
        "needs",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_b_is_called(case: tuple[WorkerState, WorkerState, str]) -> None:
    first, second, why = case
    placed = place([first, second], "m", NOW)
    assert placed is not None
    assert placed.worker == "b", placed
    assert why in placed.why
    assert place([second, first], "m", NOW) == placed


def test_ties_go_by_name() -> None:
    same = [worker(name, m=model()) for name in ("b", "a", "c")]
    placed = place(same, "m", NOW)
    assert placed is not None
    assert placed.worker == "a"


def test_two_requests_in_one_second_load_it_once() -> None:
    workers = [worker("a", m=model()), worker("b", m=model(bring_seconds=1.0))]
    placed = place(workers, "m", NOW, called={"m": "a"}, sent={"a": 1})
    assert placed is not None
    assert placed.worker == "a"


def test_two_models_in_one_second_do_not_take_the_same_bytes() -> None:
    workers = [worker(n, budget=6, free=6, m=model(), other=model()) for n in ("a", "b")]
    placed = place(workers, "m", NOW, called={"other": "a"})
    assert placed is not None
    assert placed.worker == "b"


def test_requests_of_one_second_are_spread_over_those_that_have_it() -> None:
    workers = [worker("a", m=model("ready")), worker("b", m=model("ready"))]
    sent = {"a": 0, "b": 0}
    for _ in range(8):
        placed = place(workers, "m", NOW, sent=sent)
        assert placed is not None
        sent[placed.worker] += 1
    assert sent == {"a": 4, "b": 4}


@pytest.mark.parametrize(
    ("waiting", "free", "chosen"),
    [(2, 16, "a"), (8, 16, "b"), (8, 2, "a")],
    ids=["short line", "long line", "long line, no room"],
)
def test_a_second_copy_where_the_line_takes_longer_than_a_load(
    waiting: int, free: int, chosen: str
) -> None:
    full = model("ready", serving=2, waiting=waiting, request_seconds=2.0)
    placed = place([worker("a", m=full), worker("b", free=free, m=model())], "m", NOW)
    assert placed is not None
    assert placed.worker == chosen, placed


reports = st.builds(
    model,
    st.sampled_from(STATES),
    st.integers(0, 20),
    serving=st.integers(0, 2),
    waiting=st.integers(0, 4),
    pinned=st.booleans(),
    retry_ms=st.sampled_from([NOW - 1, NOW + 1_000]),
    request_seconds=st.sampled_from([0.0, 0.5, 9.0]),
    bring_seconds=st.sampled_from([0.5, 5.0]),
)
lanes = st.lists(
    st.builds(
        worker,
        st.sampled_from("abcdef"),
        st.integers(0, 16),
        st.integers(1, 24),
        m=reports,
        other=reports,
    ),
    max_size=4,
    unique_by=lambda state: state.name,
)


def can(state: WorkerState) -> bool:
    report = state.models["m"]
    fits = report.size <= state.device.budget - taken(state) - pinned(state, "m")
    return report.state == "ready" or (fits and not failed(report, NOW))


@given(lanes, st.data())
def test_whatever_the_reports(lane: list[WorkerState], data: st.DataObject) -> None:
    names = [state.name for state in lane]
    known = st.sampled_from([*names, "dead"])
    called = data.draw(st.dictionaries(st.sampled_from(["m", "other"]), known))
    sent = data.draw(st.dictionaries(known, st.integers(0, 3)))
    placed = place(lane, "m", NOW, called=called, sent=sent)
    if placed is None:
        assert not lane
        return
    assert placed.worker in names
    assert placed == place(data.draw(st.permutations(lane)), "m", NOW, called=called, sent=sent)
    by_name = {state.name: state for state in lane}
    assert can(by_name[placed.worker]) or not any(map(can, lane))
    at_once = {
        state.name
        for state in lane
        if (report := state.models["m"]).state == "ready"
        and report.serving + report.waiting + sent.get(state.name, 0) < report.places
    }
    assert placed.worker in (at_once or names)
    silent = replace(by_name[placed.worker], models={})
    others = [state for state in lane if state.name != placed.worker]
    again = place([*others, silent], "m", NOW, called=called, sent=sent)
    assert (again is None) == (not others)
    assert again is None or again.worker != placed.worker
