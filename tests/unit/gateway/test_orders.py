"""Whom an order goes to, and when a load has come to nothing."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from gateway.orders import Obeyed, fault, named, ready, there
from shared.catalog import Catalog
from shared.errors import EngineFailed, InvalidValue, ModelUnavailable
from shared.settings import Model
from shared.wire.node import ModelReport, Note
from tests.unit.shared.test_placement import NOW, STATES, model, worker

MODEL = Model(engine="llamacpp", file="m.gguf", lane="gpu", adapters={"tuned": "folder"})
CATALOG = Catalog({"m": MODEL})
M, TUNED = CATALOG.find("m"), CATALOG.find("tuned")


def seen(report: ModelReport, *notes: Note) -> Obeyed:
    return Obeyed(replace(worker("w", m=report), decisions=notes), report, NOW, report)


def test_a_worker_that_is_not_there_is_the_callers_mistake() -> None:
    workers = [worker("a", m=model()), worker("b", other=model())]
    assert [one.name for one in named(workers, M, None)] == ["a"]
    with pytest.raises(InvalidValue, match=r"'b'.*Those that do: a") as raised:
        named(workers, M, "b")
    assert raised.value.param == "worker"
    with pytest.raises(ModelUnavailable, match="lane 'gpu'"):
        named([worker("b", other=model())], M, None)


@pytest.mark.parametrize(
    ("report", "expected"),
    [(model(state), state not in ("absent", "failed")) for state in STATES],
)
def test_where_a_model_is(report: ModelReport, expected: bool) -> None:
    assert there(worker("w", m=report), "m") is expected


def test_an_adapter_is_ready_when_its_base_and_it_are() -> None:
    assert TUNED.adapter is not None
    has = model("ready", adapters={TUNED.adapter.name: "ready"})
    assert ready(M, model("ready"))
    assert not ready(M, model("loading"))
    assert not ready(TUNED, model("ready"))
    assert ready(TUNED, has)
    assert not ready(TUNED, replace(has, state="draining"))


@pytest.mark.parametrize(
    "report",
    [
        model("loading"),
        model("ready"),
        model("absent", asked=True),
        model("failed", asked=True),
        model("draining", asked=True),
        model("absent", pinned=True),
    ],
)
def test_a_load_that_may_still_come_is_no_fault(report: ModelReport) -> None:
    assert fault(M, seen(report)) is None


def test_a_load_that_failed_or_was_given_up_says_why() -> None:
    failed = fault(M, seen(model("failed", why="no such file")))
    assert isinstance(failed, EngineFailed)
    assert (failed.message, failed.param) == ("m did not start: no such file", "model")
    notes = (Note(1, 0, ("m",), "m goes: asked"), Note(2, 0, ("n",), "n loads"))
    given_up = fault(M, seen(model("absent"), *notes))
    assert isinstance(given_up, ModelUnavailable)
    assert given_up.message == "The load of m was given up: m goes: asked."
