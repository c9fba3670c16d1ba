"""Engines are kept running, and it is known how they stand."""

from __future__ import annotations

import asyncio

import pytest

from shared.errors import EngineFailed, ModelUnavailable
from tests.unit.worker.scripted import Scripted, says
from worker import residents as module
from worker.residents import LONGEST_PAUSE, Residents, pause


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.0)


async def keeping(engine: Scripted) -> Residents:
    residents = Residents({"m": engine}, {"m": {"top_p": 0.9}})
    residents.start()
    return residents


def test_pauses_grow_and_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.2)
    assert [pause(failures) for failures in range(4)] == [0.0, 0.2, 0.4, 0.8]
    assert pause(500) == LONGEST_PAUSE


async def test_an_engine_that_dies_is_started_again() -> None:
    engine = Scripted(says("a"))
    residents = await keeping(engine)
    assert residents.states() == {"m": "loading"}
    assert await residents.engine("m") is engine
    assert residents.states() == {"m": "ready"}
    await engine.stop()
    assert await residents.engine("m") is engine
    assert (engine.started, engine.alive) == (2, True)
    await residents.stop()
    assert not engine.alive


@pytest.mark.parametrize("error", [EngineFailed("no memory"), OSError("no such file")])
async def test_a_start_that_fails_is_tried_again_whatever_it_raised(error: Exception) -> None:
    engine = Scripted(says("a"), starts=(error, error, None))
    residents = await keeping(engine)
    async with asyncio.timeout(5):
        assert await residents.engine("m") is engine
    assert engine.started == 3
    await residents.stop()


async def test_who_waits_for_what_does_not_start_is_told_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "WAIT_FOR_ENGINE", 0.05)
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    residents = await keeping(Scripted(says("a"), starts=(EngineFailed("no memory"),)))
    with pytest.raises(ModelUnavailable, match="no memory"):
        await residents.engine("m")
    assert residents.states() == {"m": "failed"}
    await residents.stop()


async def test_models_and_defaults_by_name() -> None:
    residents = await keeping(Scripted(says("a")))
    with pytest.raises(ModelUnavailable):
        await residents.engine("other")
    assert residents.defaults("m") == {"top_p": 0.9}
    assert residents.defaults("other") == {}
    await residents.stop()


async def test_a_cancellation_in_the_moment_of_readiness_is_not_lost() -> None:
    residents = await keeping(Scripted(says("a"), starts=(EngineFailed("not yet"),)))
    waiting = asyncio.create_task(residents.engine("m"))
    await asyncio.sleep(0)
    residents._residents["m"].ready.set()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await residents.stop()
