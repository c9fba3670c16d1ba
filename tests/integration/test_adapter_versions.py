"""Versions of an adapter under load: catalog, dispatch, lane and the real engine in one process."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.dispatch import Dispatch
from shared.catalog import Catalog
from shared.clock import SystemClock
from shared.errors import HubError
from shared.settings import Model, Settings
from shared.wire.event import LAST, Answer, Failed
from tests import adapters, models
from worker import inventory, residency
from worker.journal import Journal
from worker.lane import Lane
from worker.loop import Loop
from worker.report import Report

FLIPS = 50
COUNT = [{"role": "user", "content": "Count from one to twenty in words."}]


async def eventually(there: Callable[[], bool], within: float = 30) -> None:
    async with asyncio.timeout(within):
        while not there():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class Hub:
    """A gateway's dispatch and a worker that knows nothing of what its catalog learns."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.catalog = Catalog(settings.models)
        self.failed: list[str] = []

    async def start(self, stack: AsyncExitStack) -> None:
        theirs = Catalog(self.settings.models)
        found = await inventory.take(self.settings, theirs, None)
        self.ledger, clock = found.ledger, SystemClock()
        state = residency.device(found.plans, found.ledger.budget, now=clock.now())
        journal = Journal(self.settings.folder, "cpu", clock)
        self.loop = Loop(found.residents, state, found.device, found.ledger, journal, None, clock)
        stack.push_async_callback(self.loop.close)
        self.report = Report(self.loop, found.ledger, clock)
        lane = Lane(self.settings, theirs, self.loop, self.report, clock)
        running = asyncio.create_task(lane.main())
        self.dispatch = Dispatch(self.settings, self.catalog)

        async def stop() -> None:
            await self.dispatch.stop()
            lane.request_stop()
            await running

        await eventually(lambda: self.loop.slot("m").state == "ready")
        await self.dispatch.start()
        stack.push_async_callback(stop)

    async def say(self, model: str, length: int = 8) -> str:
        body = {"messages": COUNT, "temperature": 0, "max_tokens": length}
        entry = self.catalog.find(model)
        reply = await self.dispatch.open(
            "chat",
            entry,
            json.dumps(body).encode(),
            key="k",
            streamed=False,
            service="interactive",
        )
        try:
            async with asyncio.timeout(60):
                while True:
                    for item in await reply.items(60):
                        if isinstance(item, Failed):
                            raise HubError(item.message)
                        if isinstance(item, Answer):
                            return item.choices[0].text or ""
                        assert not isinstance(item, LAST)
        finally:
            reply.close()


@pytest.fixture
async def hub(valkey_url: str, tmp_path: Path) -> AsyncIterator[Hub]:
    home = tmp_path / "home"
    models.lend(home)
    for number in (1, 2, 3):
        adapters.save(tmp_path / f"v{number}", seed=number, use_rslora=number != 1)
    settings = Settings(
        home=str(home),
        redis_url=valkey_url,
        models={
            "m": Model(
                engine="llamacpp",
                file="smollm2-135m-instruct.q8_0.gguf",
                context=512,
                threads=1,
                loaded_adapters=2,
            )
        },
    )
    async with AsyncExitStack() as stack:
        made = Hub(settings)
        await made.start(stack)
        yield made


async def test_each_answer_is_from_exactly_one_version(hub: Hub, tmp_path: Path) -> None:
    whole: dict[int, str] = {}
    for number in (1, 2):
        hub.catalog.adapt("m", "ft:m:me", str(tmp_path / f"v{number}"), number)
        whole[number] = await hub.say("ft:m:me")
    assert len({*whole.values(), await hub.say("m")}) == 3
    wrong: list[str] = []
    answered: asyncio.Queue[str] = asyncio.Queue()
    flipping = True

    async def ask() -> None:
        while flipping:
            adapter = hub.catalog.find("ft:m:me").adapter
            assert adapter is not None
            answer = await hub.say("ft:m:me")
            if answer != whole[int(adapter.name[-1])]:
                wrong.append(f"{adapter.name}: {answer}")
            answered.put_nowait(adapter.name)

    asking = [asyncio.create_task(ask()) for _ in range(4)]
    versions = set()
    for flip in range(FLIPS):
        versions.add(await answered.get())
        number = flip % 2 + 1
        hub.catalog.adapt("m", "ft:m:me", str(tmp_path / f"v{number}"), number)
    flipping = False
    await asyncio.gather(*asking)
    assert not wrong
    assert versions == {"ft:m:me@1", "ft:m:me@2"}


async def test_a_hundred_flips_of_an_alias(hub: Hub, tmp_path: Path) -> None:
    """Between two tuned models, under load: no request fails, each answer is of one of them."""
    models = ("ft:m:p::1", "ft:m:p::2")
    whole = {}
    for number, name in enumerate(models, 1):
        hub.catalog.adapt("m", name, str(tmp_path / f"v{number}"), owner="p")
        whole[f"{name}@1"] = await hub.say(name)
    assert len(set(whole.values())) == 2
    hub.catalog.point("mine", models[0])
    wrong: list[str] = []
    answered: asyncio.Queue[str] = asyncio.Queue()
    flipping = True

    async def ask() -> None:
        while flipping:
            adapter = hub.catalog.find("mine").adapter
            assert adapter is not None
            answer = await hub.say("mine")
            if answer != whole[adapter.name]:
                wrong.append(f"{adapter.name}: {answer}")
            answered.put_nowait(adapter.name)

    asking = [asyncio.create_task(ask()) for _ in range(4)]
    versions = set()
    for flip in range(2 * FLIPS):
        versions.add(await answered.get())
        hub.catalog.point("mine", models[(flip + 1) % 2])
    flipping = False
    await asyncio.gather(*asking)
    assert not wrong
    assert versions == set(whole)


async def test_a_new_version_under_load_and_what_it_leaves_behind(hub: Hub, tmp_path: Path) -> None:
    """Three versions where two fit: one goes that nobody uses, and its bytes with it."""
    before = hub.loop.residents["m"].reserved
    hub.catalog.adapt("m", "ft:m:me", str(tmp_path / "v1"))
    first = await hub.say("ft:m:me", 30)
    grown = hub.loop.residents["m"].reserved
    assert grown - before == sum(tensor.nbytes for tensor in adapters.matrices(1).values())
    running = [asyncio.create_task(hub.say("ft:m:me", 30)) for _ in range(2)]
    # One turn of the loop and they have asked.
    await asyncio.sleep(0)
    for number in (2, 3):
        hub.catalog.adapt("m", "ft:m:me", str(tmp_path / f"v{number}"), number)
        assert await hub.say("ft:m:me") != first[:20]
    held = hub.report.model("m").adapters
    assert held.keys() < {"ft:m:me@1", "ft:m:me@2", "ft:m:me@3"}
    assert held["ft:m:me@3"] == "ready"
    assert "ft:m:me@1" in held or all(task.done() for task in running)
    assert await asyncio.gather(*running) == [first, first]
    await eventually(lambda: len(hub.loop.residents["m"].engine.pids()) == 1)
    assert [line.holder for line in hub.ledger.snapshot().holders] == ["m"]
    assert hub.loop.residents["m"].adapters == 2 * (grown - before)
    assert hub.loop.slot("m").plan.size == hub.loop.residents["m"].reserved
    assert hub.loop.slot("m").plan.places == 4


async def test_deleted_files_leave_the_engine_and_its_books(hub: Hub) -> None:
    """Though there is room for it, and nobody asks for another."""
    before = hub.loop.residents["m"].reserved
    tuned = hub.settings.folder / "tuned" / "one"
    adapters.save(tuned)
    hub.catalog.adapt("m", "ft:m:me", str(tuned))
    await hub.say("ft:m:me")
    await hub.say("m")
    assert hub.loop.residents["m"].reserved > before
    assert [path.name for path in (hub.settings.folder / "adapters").glob("*")] == []
    hub.catalog.forget("ft:m:me")
    shutil.rmtree(tuned)
    await eventually(lambda: hub.report.model("m").adapters == {})
    await eventually(lambda: hub.loop.residents["m"].reserved == before)
    await eventually(lambda: len(hub.loop.residents["m"].engine.pids()) == 1)
    assert await hub.say("m")
