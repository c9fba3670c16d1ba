from __future__ import annotations

import msgspec

from gateway.routes.models import extension
from gateway.status import status
from shared.catalog import Catalog
from shared.line import Line
from shared.settings import Model
from shared.wire.node import LoadProgress, Note
from shared.wire.status import Progress
from tests.unit.shared.test_placement import GIB, NOW, model, worker

LANE = Model(engine="llamacpp", file="m.gguf", lane="gpu", aliases=("also",))
CATALOG = Catalog(
    {
        "m": msgspec.structs.replace(LANE, adapters={"tuned": "folder"}),
        "n": msgspec.structs.replace(LANE, aliases=()),
        "far": Model(engine="openai", url="http://h/v1", lane="elsewhere"),
    }
)
LINES = {"m": Line(3, 1500), "n": Line(0, 0)}


def test_times_are_seconds_before_the_heartbeat_whatever_our_clock_says() -> None:
    told = worker("w", m=model("ready", since_ms=NOW - 9000, used_ms=NOW - 4000, measured=GIB))
    [found] = status([told], LINES, CATALOG, NOW + 700, None).workers
    [one] = found.models
    assert (found.heard_seconds, one.since_seconds, one.idle_seconds) == (0.7, 9.0, 4.0)
    assert (one.bytes.reserved, one.bytes.measured) == (4 * GIB, GIB)
    assert (one.why, one.held, one.progress, one.retry_seconds) == (None, None, None, None)


def test_what_serves_or_is_not_loaded_is_not_idle() -> None:
    told = worker("w", m=model("ready", serving=1), n=model("failed", retry_ms=NOW + 2500))
    busy, failed = status([told], LINES, CATALOG, NOW, None).workers[0].models
    assert (busy.idle_seconds, failed.idle_seconds) == (None, None)
    assert failed.retry_seconds == 2.5


def test_progress_is_told_in_full() -> None:
    told = worker("w", m=model("loading", progress=LoadProgress("weights")))
    [one] = status([told], LINES, CATALOG, NOW, None).workers[0].models
    assert one.progress == Progress(phase="weights", read=0, total=0)


def test_one_model_alone_and_those_nobody_serves() -> None:
    notes = (Note(1, NOW, ("m",), "m loads"), Note(2, NOW - 1000, ("n",), "n loads"))
    both = msgspec.structs.replace(worker("w", m=model(), n=model()), decisions=notes)
    other = worker("v", n=model())
    all_of_it = status([both, other], LINES, CATALOG, NOW, None)
    assert [found.name for found in all_of_it.workers] == ["v", "w"]
    assert all_of_it.unserved == ["far"]
    assert all_of_it.queues["m"].waiting == 3
    assert all_of_it.queues["m"].overdue_seconds == 1.5
    [found] = status([both, other], {"n": LINES["n"]}, CATALOG, NOW, "m").workers
    assert [one.model for one in found.models] == ["m"]
    assert [(note.number, note.ago_seconds) for note in found.decisions] == [(1, 0.0)]
    assert status([both], {}, CATALOG, NOW, "m").unserved == []


def test_the_extension_tells_where_a_model_stands_best() -> None:
    workers = [worker("a", m=model("failed")), worker("b", m=model("ready", adapters={}))]
    told = extension(CATALOG.find("m"), workers)
    assert (told.state, told.devices, told.aliases) == ("ready", ["cuda:b"], ("also",))
    assert extension(CATALOG.find("far"), workers).state == "unserved"


def test_an_adapter_stands_as_its_bases_engine_has_it() -> None:
    tuned = CATALOG.find("tuned")
    assert tuned.adapter is not None
    has = model("ready", adapters={tuned.adapter.name: "ready"})
    assert extension(tuned, [worker("a", m=model("ready"))]).state == "absent"
    told = extension(tuned, [worker("a", m=model("ready")), worker("b", m=has)])
    assert (told.state, told.devices, told.aliases) == ("ready", ["cuda:b"], ())
    assert extension(tuned, [worker("a", m=model("failed"))]).state == "failed"
