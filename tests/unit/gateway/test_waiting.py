from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.waiting import Outlook, Waiting, expect, outlook, retry_after
from shared.wire.node import DeviceReport, LoadProgress, ModelReport, ModelState, WorkerState

NOW = 1_000_000
MB = 10**6
STATES: tuple[ModelState, ...] = ("absent", "loading", "ready", "asleep", "draining", "failed")


def model(state: ModelState = "ready", **more: Any) -> ModelReport:
    values = {"places": 2, "since_ms": NOW, "bring_seconds": 10.0, "request_seconds": 4.0, **more}
    return ModelReport(state=state, **values)


def worker(name: str = "w", free: int = 100, **models: ModelReport) -> WorkerState:
    device = DeviceReport(name="cpu", kind="cpu", total=200, budget=200, free=free)
    return WorkerState(
        name=name,
        lane="cpu",
        host="h",
        pid=1,
        started_ms=0,
        running=0,
        device=device,
        models=models,
    )


CASES: dict[str, tuple[list[WorkerState], Waiting]] = {
    "a free place": ([worker(m=model(serving=1))], Waiting(1, 0.0, "m serves 1")),
    "all places taken": ([worker(m=model(serving=2))], Waiting(1, 2.0, "m serves 2")),
    "two workers take from one line": (
        [worker("a", m=model(serving=2)), worker("b", m=model(serving=2))],
        Waiting(1, 1.0, "m serves 4"),
    ),
    "a load by its time": (
        [worker(m=model("loading", since_ms=NOW - 4000))],
        Waiting(1, 6.0, "loading m"),
    ),
    "a load that takes longer than planned, by its bytes": (
        [
            worker(
                m=model(
                    "loading",
                    since_ms=NOW - 12_000,
                    progress=LoadProgress("reading weights", 300 * MB, 400 * MB),
                )
            )
        ],
        Waiting(1, 4.0, "loading m: reading weights 300 of 400 MB"),
    ),
    "few bytes tell nothing of the rest": (
        [worker(m=model("loading", progress=LoadProgress("reading weights", 1, 400 * MB)))],
        Waiting(1, 10.0, "loading m: reading weights 0 of 400 MB"),
    ),
    "a phase without bytes": (
        [worker(m=model("loading", progress=LoadProgress("waking up")))],
        Waiting(1, 10.0, "loading m: waking up"),
    ),
    "absent": ([worker(m=model("absent"))], Waiting(1, 10.0, "m is absent")),
    "what it waits for comes from its worker": (
        [worker(m=model("absent", held="m waits for the room of n"))],
        Waiting(1, 10.0, "m waits for the room of n", others=True),
    ),
    "another load comes first": (
        [worker(m=model("asleep"), n=model("loading", since_ms=NOW - 3000))],
        Waiting(1, 17.0, "m is asleep"),
    ),
    "a model in use must leave": (
        [worker(free=5, m=model("absent", size=6), n=model("ready", serving=1))],
        Waiting(1, 24.0, "m is absent"),
    ),
    "a model in use may stay": (
        [worker(free=6, m=model("absent", size=6), n=model("ready", serving=1))],
        Waiting(1, 10.0, "m is absent"),
    ),
    "a pause after a failed load": (
        [worker(m=model("failed", retry_ms=NOW + 2500))],
        Waiting(1, 12.5, "m did not start, the next try is in 3 s", fails=True),
    ),
    "nobody": ([worker(n=model())], Waiting(1, 6.0, "no worker serves m now")),
    "the worker that was called": (
        [
            worker("a", m=model("absent", bring_seconds=1.0)),
            worker("w", m=model("absent", bring_seconds=3.0)),
        ],
        Waiting(1, 3.0, "m is absent"),
    ),
    "the worker that is soonest, where its load failed on the one that was called": (
        [
            worker("a", m=model("absent", bring_seconds=3.0)),
            worker("w", m=model("failed", bring_seconds=3.0, retry_ms=NOW + 1000)),
        ],
        Waiting(1, 3.0, "m is absent"),
    ),
    "the worker that is soonest, where the called one is gone": (
        [
            worker("a", m=model("absent", bring_seconds=5.0)),
            worker("b", m=model("absent", bring_seconds=3.0)),
        ],
        Waiting(1, 3.0, "m is absent"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_first_in_line(name: str) -> None:
    workers, expected = CASES[name]
    assert expect(outlook(workers, "m", "w", NOW), 0) == expected


def test_those_behind_wait_for_their_turns() -> None:
    ready = outlook([worker(m=model(serving=2))], "m", None, NOW)
    assert [expect(ready, ahead).seconds for ahead in range(3)] == [2.0, 4.0, 6.0]
    loading = outlook([worker(m=model("loading"))], "m", None, NOW)
    assert [expect(loading, ahead).seconds for ahead in range(4)] == [10.0, 10.0, 12.0, 14.0]


def test_a_comment_is_one_line_of_ascii() -> None:
    told = Waiting(3, 11.2, "loading m: reading weights 312 of 540 MB")
    expected = b": waiting; position 3; about 12 s; loading m: reading weights 312 of 540 MB\n\n"
    assert told.comment(discreet=False) == expected
    assert b"about 1 s" in Waiting(1, 0.0, "").comment(discreet=False)


def test_other_models_are_not_named_to_those_who_may_not_use_them() -> None:
    absent = worker(m=model("absent", held="m waits for n"))
    told = expect(outlook([absent], "m", "w", NOW), 0)
    assert b"m waits for n" in told.comment(discreet=False)
    assert b"; its device has no room yet\n" in told.comment(discreet=True)
    own = Waiting(1, 2.0, "loading m")
    assert own.comment(discreet=True) == own.comment(discreet=False)


@given(st.text(max_size=400), st.floats(0, 1e9), st.integers(1, 10**6))
def test_no_text_can_end_a_comment(why: str, seconds: float, position: int) -> None:
    line = Waiting(position, seconds, why).comment(discreet=False)
    assert line.startswith(b": waiting; ")
    assert line.endswith(b"\n\n")
    assert len(line) < 300
    assert all(0x20 <= byte < 0x7F for byte in line[:-2])


def test_who_is_refused_is_told_the_same_within_bounds() -> None:
    busy = outlook([worker(m=model(serving=2))], "m", None, NOW)
    assert retry_after(busy, 4) == 10
    assert retry_after(busy, 1000) == 60
    assert retry_after(outlook([worker(m=model())], "m", None, NOW), 0) == 1


seconds = st.floats(0, 1e4)
progresses = st.builds(
    lambda phase, read, more: LoadProgress(phase, read, read + more),
    st.sampled_from(("starting", "reading weights", "warming up")),
    st.integers(0, 10**12),
    st.integers(0, 10**12),
)
models = st.builds(
    ModelReport,
    state=st.sampled_from(STATES),
    since_ms=st.integers(NOW - 10**7, NOW + 1000),
    serving=st.integers(0, 8),
    places=st.integers(1, 8),
    size=st.integers(0, 200),
    reserved=st.integers(0, 200),
    bring_seconds=seconds,
    request_seconds=seconds,
    progress=st.none() | progresses,
    retry_ms=st.integers(0, NOW + 10**6),
)
lanes = st.lists(
    st.builds(
        lambda name, free, models: worker(name, free, **models),
        st.sampled_from("abc"),
        st.integers(-50, 200),
        st.dictionaries(st.sampled_from("mno"), models, max_size=3),
    ),
    max_size=3,
    unique_by=lambda one: one.name,
)


@given(lanes, st.sampled_from((None, "a", "b")), st.integers(0, 5000), st.integers(0, 5000))
def test_nobody_waits_less_than_nothing_or_than_those_before(
    workers: list[WorkerState], called: str | None, ahead: int, behind: int
) -> None:
    told = outlook(workers, "m", called, NOW)
    first, second = expect(told, ahead), expect(told, ahead + behind)
    assert 0 <= first.seconds <= second.seconds < float("inf")
    assert first.position >= 1
    assert second.position == first.position + behind
    assert 1 <= retry_after(told, ahead) <= 60


@given(models, st.integers(0, 100), st.integers(1, 8))
def test_more_places_never_make_it_longer(report: ModelReport, ahead: int, more: int) -> None:
    wider = replace(report, places=report.places + more)
    before, after = (outlook([worker(m=one)], "m", None, NOW) for one in (report, wider))
    assert expect(after, ahead).seconds <= expect(before, ahead).seconds * (1 + 1e-9)


@given(models, progresses, st.integers(0, 10**12))
def test_more_bytes_read_never_make_it_longer(
    report: ModelReport, progress: LoadProgress, more: int
) -> None:
    further = replace(progress, read=min(progress.total, progress.read + more))
    if progress.read <= progress.total * 0.05 < further.read:
        # The first bytes that tell anything may tell that the plan was wrong.
        return
    slow, fast = (
        outlook([worker(m=replace(report, state="loading", progress=one))], "m", None, NOW)
        for one in (progress, further)
    )
    assert fast.ready <= slow.ready


def test_an_outlook_is_the_same_for_all_who_wait() -> None:
    told = Outlook(5.0, 1, 0.5, "why", fails=True)
    assert expect(told, 2) == Waiting(3, 9.0, "why", fails=True)
