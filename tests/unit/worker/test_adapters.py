"""Leases, loads and their ends, on an engine that does as it is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shared.errors import HubError, InvalidValue, ModelUnavailable, QueueFull
from shared.wire.task import Adapter
from tests.unit.worker.adapter_stage import A, B, C, Engine, Stage, Successor
from worker import adapter_lease, adapter_load, adapter_past
from worker.engines.base import EngineLost


@pytest.fixture(autouse=True)
def sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_load, "size_of", lambda path: 10)


async def test_loaded_once_for_all_who_wait() -> None:
    stage = Stage(Engine())
    stage.engine.go.clear()
    waiting = [asyncio.create_task(stage.lease(A)) for _ in range(3)]
    await asyncio.sleep(0)
    assert stage.adapters.states() == {"a@1": "loading"}
    stage.engine.go.set()
    leases = await asyncio.gather(*waiting)
    assert stage.engine.calls == ["load a@1"]
    assert all(lease.valid for lease in leases)
    assert stage.adapters.take(A) is not None
    assert stage.adapters.states() == {"a@1": "ready"}
    assert stage.bytes.booked == 10


async def test_the_bound_holds_and_who_is_used_stays() -> None:
    stage = Stage(Engine())
    used = await stage.lease(A)
    (await stage.lease(B)).release()
    stage.clock.time += 100
    await stage.lease(C)
    assert stage.engine.has == ["a@1", "c@1"]
    assert used.valid
    used.release()
    assert not used.valid
    used.release()
    assert stage.bytes.booked == 20


async def test_what_cannot_be_loaded_says_why_and_is_not_tried_again_at_once() -> None:
    stage = Stage(Engine())
    stage.engine.faults["a@1"] = InvalidValue("its rank is 64", param="adapter")
    for _ in range(2):
        with pytest.raises(InvalidValue, match="its rank is 64") as refused:
            await stage.lease(A)
        assert refused.value.param == "model"
    assert stage.engine.calls == ["load a@1"]
    assert stage.adapters.states() == {"a@1": "failed"}
    assert stage.bytes.booked == 0
    assert (await stage.lease(B)).valid
    stage.engine.faults.clear()
    stage.clock.time += adapter_past.RETRY
    assert (await stage.lease(A)).valid
    assert stage.adapters.states() == {"b@1": "ready", "a@1": "ready"}


async def test_an_error_of_the_engine_is_told_and_the_next_one_tries_again() -> None:
    stage = Stage(Engine())
    stage.engine.faults["a@1"] = ValueError("what")
    with pytest.raises(ValueError, match="what"):
        await stage.lease(A)
    stage.engine.faults.clear()
    assert (await stage.lease(A)).valid


async def test_an_end_voids_leases_and_the_next_run_has_what_this_one_had() -> None:
    stage = Stage(Engine())
    lease = await stage.lease(A)
    stage.engine.go.clear()
    waiting = asyncio.create_task(stage.lease(B))
    await asyncio.sleep(0)
    stage.adapters.ended()
    with pytest.raises(EngineLost):
        await waiting
    assert not lease.valid
    lease.release()
    with pytest.raises(EngineLost):
        await stage.adapters.wait(A)
    stage.engine.go.set()
    await stage.settled()
    assert stage.adapters.states() == {}
    stage.engine.calls.clear()
    stage.adapters.began()
    await stage.settled()
    assert stage.engine.calls == ["load a@1"]
    assert stage.adapters.take(A) is not None


async def test_the_settings_own_are_there_from_the_start_as_far_as_the_bound_goes() -> None:
    stage = Stage(Engine(), listed=(A, B, C))
    await stage.settled()
    assert stage.engine.has == ["a@1", "b@1"]


async def test_who_leaves_the_line_leaves_no_lease_behind() -> None:
    stage = Stage(Engine(), bound=1)
    stage.engine.go.clear()
    waiting = asyncio.create_task(stage.lease(A))
    await asyncio.sleep(0)
    waiting.cancel()
    stage.engine.go.set()
    await stage.settled()
    assert stage.engine.has == ["a@1"]
    stage.clock.time += 100
    await stage.lease(B)
    assert stage.engine.has == ["b@1"]


async def test_unused_ones_make_room_for_bytes_and_what_is_missing_is_told() -> None:
    stage = Stage(Engine(), bound=9)
    stage.bytes.room = 15
    lease = await stage.lease(A)
    with pytest.raises(ModelUnavailable, match=r"b@1 needs 10 bytes and 5 are missing"):
        await stage.lease(B)
    assert stage.engine.has == ["a@1"]
    lease.release()
    await stage.lease(B)
    assert stage.engine.has == ["b@1"]


async def test_a_line_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_lease, "MOST_WAITING", 1)
    stage = Stage(Engine())
    stage.engine.go.clear()
    waiting = asyncio.create_task(stage.lease(A))
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await stage.lease(B)
    stage.engine.go.set()
    await waiting


async def test_an_engine_of_successors_loads_all_who_wait_together() -> None:
    stage = Stage(Successor())
    stage.engine.go.clear()
    first = asyncio.create_task(stage.lease(A))
    await asyncio.sleep(0)
    others = [asyncio.create_task(stage.lease(B)) for _ in range(2)]
    await asyncio.sleep(0)
    stage.engine.go.set()
    await asyncio.gather(first, *others)
    await stage.settled()
    assert stage.engine.calls == ["load ['a@1']", "load ['b@1']"]
    assert stage.bytes.doubled == 0


async def test_a_successor_has_its_adapters_before_it_starts() -> None:
    stage = Stage(Successor(), bound=3, listed=(A, B))
    stage.adapters.ended()
    await stage.settled()
    stage.engine.calls.clear()
    stage.engine.faults["b@1"] = InvalidValue("no file")
    await stage.adapters.prepare()
    assert stage.engine.calls == ["load ['a@1', 'b@1']"]
    stage.adapters.began()
    await stage.settled()
    assert stage.engine.calls == ["load ['a@1', 'b@1']", "load ['a@1']"]
    with pytest.raises(HubError, match="no file"):
        stage.adapters.take(B)


def test_only_what_fine_tuning_made_can_be_gone() -> None:
    tuned, listed = Adapter("t@1", "/tuned/t"), Adapter("l@1", "/elsewhere/l")
    stage = Stage(Engine(), bound=3, started=False, listed=(tuned, listed))
    assert stage.adapters.tuned() == {"t@1": Path("/tuned/t")}


async def test_what_was_deleted_goes_as_soon_as_nobody_uses_it() -> None:
    stage = Stage(Engine(), bound=3)
    lease = await stage.lease(A)
    (await stage.lease(B)).release()
    assert stage.bytes.booked == 20
    assert stage.adapters.retire({"a@1", "b@1", "c@1"}) == ["b@1"]
    await stage.settled()
    assert (stage.engine.has, stage.bytes.booked) == (["a@1"], 10)
    assert stage.adapters.retire({"a@1"}) == []
    lease.release()
    assert stage.adapters.retire({"a@1"}) == ["a@1"]
    await stage.settled()
    assert (stage.engine.has, stage.bytes.booked) == ([], 0)
    stage.adapters.ended()
    stage.adapters.began()
    await stage.settled()
    assert stage.engine.has == []


async def test_an_engine_of_successors_drops_what_was_deleted_where_two_have_room() -> None:
    stage = Stage(Successor(), bound=3)
    (await stage.lease(A)).release()
    stage.bytes.two = False
    assert stage.adapters.retire({"a@1"}) == []
    stage.bytes.two = True
    assert stage.adapters.retire({"a@1"}) == ["a@1"]
    await stage.settled()
    assert stage.engine.calls[-2:] == ["unload a@1", "load []"]
    assert (stage.bytes.doubled, stage.bytes.booked) == (0, 0)
