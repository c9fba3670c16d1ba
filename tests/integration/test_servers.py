"""A worker's look at an Ollama server: what comes, goes, cannot be, and is asked again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.catalog import Catalog, Entry
from shared.footprint import Key
from shared.settings import DEFAULT_MODELS, Model, Settings
from tests import models
from tests.fakes.ollama import OllamaDouble, ollama_double
from tests.fakes.ollama_memory import Served
from tests.loops import GIB, around
from worker.cpu import CpuDevice
from worker.engines.registry import build
from worker.ledger import Ledger
from worker.loop import Loop
from worker.occasion import LoadFailed
from worker.resident import Resident
from worker.servers import KEPT, Servers

CHAT = Served(DEFAULT_MODELS[models.CHAT], ("completion",), "llama")
EMBEDDING = Served(DEFAULT_MODELS[models.EMBEDDING], ("embedding",), "bert")


class Hand:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at

    def wall_ms(self) -> int:
        return int(self.at * 1000)


class Looks:
    """The servers of a lane, looked at when the test says so."""

    def __init__(self, double: OllamaDouble, disk: dict[str, Served], folder: Path) -> None:
        self.double = double
        self.disk = disk
        self.clock = Hand()
        table = Model(engine="ollama", url=double.url, context=1024, keep_alive=30)
        self.catalog = Catalog({"box/*": table, "box/own:1": table})
        self.loop: Loop = around({}, folder)
        self.servers = Servers(self.catalog, "cpu", self.make, self.loop, self.clock)

    async def make(self, entry: Entry) -> Resident:
        device, ledger = CpuDevice(), Ledger("cpu", GIB)
        engine = build(entry.name, entry.model, Settings())
        key = Key("cpu", entry.name, "ollama", 0, 1)
        return Resident(entry.name, engine, device, ledger, 0, None, key, {})

    async def look(self) -> list[str]:
        """The models that are offered after one more look."""
        await self.servers.look(self.servers._servers[0])
        assert set(self.loop.residents) == set(self.loop.state.slots)
        return sorted(self.loop.residents)

    def offered(self) -> list[str]:
        return [one.name for one in self.servers.offered().get("box/*", ())]


@pytest.fixture
async def looks(tmp_path: Path) -> AsyncIterator[Looks]:
    models.lend(tmp_path)
    disk = {"a:1": CHAT}
    async with ollama_double(disk, Settings(home=str(tmp_path))) as double:
        found = Looks(double, disk, tmp_path)
        yield found
        await found.loop.close()


async def test_what_comes_and_goes(looks: Looks) -> None:
    assert looks.servers.offered() == {}
    assert await looks.look() == ["box/a:1"]
    assert looks.loop.slot("box/a:1").plan.keep_alive == 30
    looks.disk["e:latest"] = EMBEDDING
    assert await looks.look() == ["box/a:1", "box/e:latest"]
    assert looks.catalog.find("box/e").model.kind == "embedding"
    del looks.disk["a:1"]
    assert await looks.look() == ["box/e:latest"]
    assert looks.offered() == ["e:latest"]
    looks.disk["a:1"] = CHAT
    assert await looks.look() == ["box/a:1", "box/e:latest"]


async def test_each_model_is_asked_for_once(looks: Looks) -> None:
    for _ in range(3):
        await looks.look()
    asked = [route for route, _ in looks.double.asked]
    assert asked.count("POST /api/show") == 1
    assert asked.count("GET /api/tags") == 3


async def test_names_that_cannot_be_are_left_out(looks: Looks) -> None:
    looks.disk |= dict.fromkeys(("own:1", "a b:1", "-x:1", "x" * 300), CHAT)
    assert await looks.look() == ["box/a:1"]
    assert looks.offered() == ["a:1"]
    asked = {body["model"] for route, body in looks.double.asked if route == "POST /api/show"}
    assert asked == {"a:1", "own:1"}


async def test_a_server_that_is_away_keeps_its_models_for_a_while(looks: Looks) -> None:
    await looks.look()
    looks.double.hang_up()
    looks.clock.at += KEPT
    assert await looks.look() == ["box/a:1"]
    looks.clock.at += 1
    assert await looks.look() == []
    assert looks.servers.offered() == {"box/*": ()}
    await looks.double.listen()
    assert await looks.look() == ["box/a:1"]


async def test_one_that_never_answered_says_nothing(looks: Looks) -> None:
    looks.double.hang_up()
    looks.clock.at += 10 * KEPT
    assert await looks.look() == []
    assert looks.servers.offered() == {}


async def test_loads_that_failed_meanwhile_are_tried_at_once(looks: Looks) -> None:
    await looks.look()
    looks.double.hang_up()
    await looks.look()
    looks.loop.post(LoadFailed(looks.loop.now, "box/a:1", "Ollama does not answer"))
    assert looks.loop.slot("box/a:1").state == "failed"
    await looks.look()
    assert looks.loop.slot("box/a:1").state == "failed"
    await looks.double.listen()
    await looks.look()
    assert looks.loop.slot("box/a:1").state == "absent"


async def test_another_model_under_the_same_name_is_made_anew(looks: Looks) -> None:
    await looks.look()
    before = looks.loop.residents["box/a:1"]
    looks.disk["a:1"] = EMBEDDING
    looks.double.digest = "1" * 64
    await looks.look()
    assert await looks.look() == ["box/a:1"]
    assert looks.loop.residents["box/a:1"] is not before
    assert looks.catalog.find("box/a:1").model.kind == "embedding"


async def test_what_is_shown_in_a_strange_shape_costs_that_model_only(looks: Looks) -> None:
    looks.disk["b:1"] = CHAT
    looks.double.strange.add("b:1")
    assert await looks.look() == ["box/a:1"]
    looks.double.strange.clear()
    assert await looks.look() == ["box/a:1", "box/b:1"]


async def test_it_asks_until_it_is_cancelled(looks: Looks) -> None:
    running = asyncio.create_task(looks.servers.run())
    async with asyncio.timeout(30):
        await looks.double.hears("GET /api/tags", 2)
    running.cancel()
    assert isinstance((await asyncio.gather(running, return_exceptions=True))[0], BaseException)
