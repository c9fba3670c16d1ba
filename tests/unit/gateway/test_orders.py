"""Whom an order concerns, and when a load has come to nothing."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from gateway.orders import Obeyed, concerns, fault, named, ready
from shared.catalog import Catalog
from shared.errors import EngineFailed, InvalidValue, ModelUnavailable
from shared.settings import Model
from shared.wire.event import What
from shared.wire.node import ModelReport, Note
from tests.unit.gateway.test_placement import NOW, model, worker

MODEL = Model(engine="llamacpp", file="m.gguf", lane="gpu", adapters={"tuned": "folder"})
CATALOG = Catalog({"m": MODEL})
M, TUNED = CATALOG.find("m"), CATALOG.find("tuned")


def seen(report: ModelReport, *notes: Note) -> Obeyed:
    return Obeyed(replace(worker("w", m=report), decisions=notes), report, NOW)


def test_a_worker_that_is_not_there_is_the_callers_mistake() -> None:
    workers = [worker("a", m=model()), worker("b", other=model())]
    assert [one.name for one in named(workers, M, None)] == ["a"]
    with pytest.raises(InvalidValue, match=r"'b'.*Those that do: a") as raised:
        named(workers, M, "b")
    assert raised.value.param == "worker"
    with pytest.raises(ModelUnavailable, match="lane 'gpu'"):
        named([worker("b", other=model())], M, None)


@pytest.mark.parametrize(
    ("what", "report", "concerned"),
    [
        ("unload", model("ready"), True),
        ("unload", model("absent"), False),
        ("unload", model("failed"), False),
        ("unload", model("absent", asked=True), True),
        ("unload", model("failed", pinned=True), True),
        ("pin", model("asleep"), True),
        ("pin", model("absent"), False),
        ("unpin", model("ready"), False),
        ("unpin", model("absent", pinned=True), True),
    ],
)
def test_whom_an_order_concerns(what: What, report: ModelReport, concerned: bool) -> None:
    assert concerns(what, worker("w", m=report), M) is concerned


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
