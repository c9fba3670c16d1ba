"""What a gateway makes of what workers say their servers have."""

from __future__ import annotations

import pytest

from gateway.offers import KEPT, UNSERVED, Offers, union
from shared.catalog import Catalog
from shared.errors import ModelNotFound
from shared.settings import Model
from shared.wire.node import DeviceReport, Offered, WorkerState

TABLE = Model(engine="ollama", url="box:11434", lane="box")
A, B = Offered("a:1", "chat"), Offered("b:1", "chat")


class Hand:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at

    def wall_ms(self) -> int:
        return int(self.at * 1000)


def worker(name: str = "wk-1", lane: str = "box", **offered: tuple[Offered, ...]) -> WorkerState:
    device = DeviceReport(name="cpu", kind="cpu", total=1, budget=1)
    return WorkerState(
        name=name,
        lane=lane,
        host="h",
        pid=1,
        started_ms=0,
        running=0,
        device=device,
        models={},
        offered={f"{table}/*": told for table, told in offered.items()},
    )


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def catalog() -> Catalog:
    return Catalog({"box/*": TABLE})


def names(catalog: Catalog) -> list[str]:
    return [entry.name for entry in catalog]


def test_all_that_any_worker_of_the_lane_tells(catalog: Catalog, clock: Hand) -> None:
    offers = Offers(catalog, {}, clock)
    offers.take([worker(box=(A,)), worker("wk-2", box=(B,)), worker("wk-3", "cpu", box=())])
    assert names(catalog) == ["box/a:1", "box/b:1"]
    offers.take([worker(box=(A,)), worker("wk-2")])
    assert names(catalog) == ["box/a:1"]
    with pytest.raises(ModelNotFound):
        catalog.find("box/b:1")


def test_other_lanes_and_tables_tell_nothing(catalog: Catalog, clock: Hand) -> None:
    offers = Offers(catalog, {}, clock)
    offers.take([worker(lane="cpu", box=(A,)), worker(other=(A,))])
    assert names(catalog) == []
    assert union("box/*", [worker(other=(A,))]) is None
    assert union("box/*", [worker(box=())]) == []


def test_what_was_told_stands_while_nobody_tells(catalog: Catalog, clock: Hand) -> None:
    offers = Offers(catalog, {}, clock)
    offers.take([worker(box=(A,))])
    entry = catalog.find("box/a:1")
    clock.at += UNSERVED
    offers.take([worker()])
    assert not offers.unserved(entry)
    clock.at += 1
    assert offers.unserved(entry)
    assert names(catalog) == ["box/a:1"]
    clock.at += KEPT
    offers.take([])
    assert names(catalog) == []
    offers.take([worker(box=(A,))])
    assert not offers.unserved(catalog.find("box/a:1"))


def test_models_with_a_table_of_their_own_are_never_unserved_here(clock: Hand) -> None:
    catalog = Catalog({"m": TABLE})
    assert not Offers(catalog, {}, clock).unserved(catalog.find("m"))
