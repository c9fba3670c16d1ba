"""Gateways' dispatch and workers' lanes in one process, before an upstream that counts tokens."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from msgspec.structs import replace

from gateway.dispatch import Dispatch
from gateway.reply import Reply
from shared import keys, wake
from shared.catalog import Catalog
from shared.resp import Link
from shared.settings import Model, Settings
from shared.wire.event import LAST, Done, Finish, Item, Text
from shared.wire.node import decode_state
from shared.wire.task import Class, Kind, Origin
from tests.loops import around, reported
from tests.native import Upstream
from worker.custody import ALL, Share
from worker.engines.registry import build
from worker.lane import Lane
from worker.occasion import LoadAsked

PLACES = 4
LIVING = (
    *("aihub:worker", "aihub:keepers:", "aihub:reply:", "aihub:wake:", "aihub:share:"),
    *("aihub:usage", "aihub:wishes:"),
)


async def eventually(there: Callable[[], bool], within: float = 10) -> None:
    async with asyncio.timeout(within):
        while not there():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def served(lane: Lane) -> int:
    """Places in engines that are taken, by the loop's books."""
    return sum(slot.serving for slot in lane._loop.state.slots.values())


def sees(dispatch: Dispatch, lane: Lane, model: str) -> bool:
    """Whether a gateway knows that the model is ready on this worker."""
    workers = {worker.name: worker for worker in dispatch.sightings.workers()}
    return lane.name in workers and workers[lane.name].models[model].state == "ready"


class Hub:
    """Gateways and workers of one test, and a link of its own."""

    def __init__(
        self,
        url: str,
        upstream: Upstream,
        stack: AsyncExitStack,
        limit: float,
        models: dict[str, Model] | None,
        size: int,
    ) -> None:
        socket = f"unix:{upstream.path}"
        both = {
            "m": Model(engine="openai", url=socket, parallel=PLACES),
            "e": Model(engine="openai", url=socket, kind="embedding"),
        }
        self.settings = Settings(
            redis_url=url,
            queue_limit=16,
            request_timeout=limit,
            drain_timeout=1,
            models=both if models is None else models,
        )
        self._size = size
        self.catalog = Catalog(self.settings.models)
        self.upstream = upstream
        self.link = Link(url, "test")
        self.lanes: list[Lane] = []
        self.dispatches: list[Dispatch] = []
        self._mains: dict[str, asyncio.Task[None]] = {}
        self._stack = stack

    async def start(self) -> None:
        await self.link.start()
        await self.link.wait_open(5)
        self._stack.push_async_callback(self.link.stop)

    async def lane(self, share: Share = ALL, url: str | None = None) -> Lane:
        """`url`: the upstream of its engines, where that is another than the models' own."""
        lane_entries = self.catalog.lane("cpu")
        engines = {
            e.name: build(e.name, replace(e.model, url=url or e.model.url), self.settings)
            for e in lane_entries
        }
        folder = self._stack.enter_context(TemporaryDirectory())
        loop = around(engines, Path(folder), PLACES, size=self._size)
        lane = Lane(self.settings, self.catalog, loop, reported(loop), share=share)
        self._stack.push_async_callback(loop.close)
        self.lanes.append(lane)
        self._mains[lane.name] = asyncio.create_task(lane.main())
        self._stack.push_async_callback(self.stop_lane, lane)
        wanted = {e.name for e in lane_entries if e.model.preload and share.of == 1}
        await eventually(lambda: self.ready() >= wanted)
        await self.told(lane)
        return lane

    async def load(self, lane: Lane, model: str) -> None:
        """Has one worker load a model, as an administrator would."""
        lane._loop.post(LoadAsked(lane._loop.now, model))
        await eventually(lambda: lane._loop.slot(model).state == "ready")
        await self.told(lane)
        for dispatch in self.dispatches:
            await eventually(partial(sees, dispatch, lane, model))

    async def told(self, lane: Lane) -> None:
        """Returns when the lane's heartbeat says what its models' states are."""
        async with asyncio.timeout(5):
            while True:
                data = await self.link.call("GET", keys.worker(lane.name))
                models = decode_state(data).models if data is not None else {}
                slots = lane._loop.state.slots
                told = {name: report.state for name, report in models.items()}
                if told == {name: slot.state for name, slot in slots.items()}:
                    return

    def ready(self) -> set[str]:
        """The models that some worker has."""
        slots = [pair for lane in self.lanes for pair in lane._loop.state.slots.items()]
        return {name for name, slot in slots if slot.state == "ready"}

    async def stop_lane(self, lane: Lane) -> None:
        lane.request_stop()
        await self._mains[lane.name]

    async def dispatch(self) -> Dispatch:
        dispatch = Dispatch(self.settings, self.catalog)
        await dispatch.start()
        self.dispatches.append(dispatch)
        self._stack.push_async_callback(dispatch.stop)
        return dispatch

    async def ask(
        self,
        count: int = 50,
        *,
        model: str = "m",
        kind: Kind = "chat",
        streamed: bool = True,
        key: str = "alice",
        service: Class = "interactive",
        dispatch: Dispatch | None = None,
        origin: Origin | None = None,
        **body: Any,
    ) -> Reply:
        if kind == "chat":
            body.setdefault("messages", [{"role": "user", "content": "?"}])
        if kind != "embedding":
            body["max_tokens"] = count
        return await (dispatch or self.dispatches[0]).open(
            kind,
            self.catalog.find(model),
            json.dumps({"model": model, **body}).encode(),
            key=key,
            streamed=streamed,
            service=service,
            origin=origin,
        )

    def idle(self) -> bool:
        open_ = [lane for lane in self.lanes if not lane._stop.is_set()]
        return not any(lane._running or served(lane) for lane in open_)

    async def left(self) -> list[str]:
        names = [name.decode() for name in await self.link.call("KEYS", "*")]
        return [n for n in names if not n.startswith(LIVING) and "health-check" not in n]

    async def take_lease_away(self, reply: Reply) -> None:
        """As if the lease's time had passed."""
        id_, name = reply.task.id, keys.queue("m")
        await self.link.call("DEL", keys.IN_PROGRESS + id_)
        await self.link.call("ZADD", name, int(time.time() * 1000) - 1_000, id_)
        for lane in self.lanes:
            wake.call(self.link, lane.name, name, 1)


@asynccontextmanager
async def running(
    url: str,
    upstream: Upstream,
    *,
    lanes: int = 1,
    dispatches: int = 1,
    limit: float = 30,
    models: dict[str, Model] | None = None,
    size: int = 0,
) -> AsyncIterator[Hub]:
    async with AsyncExitStack() as stack:
        hub = Hub(url, upstream, stack, limit, models, size)
        await hub.start()
        for _ in range(lanes):
            await hub.lane()
        for _ in range(dispatches):
            await hub.dispatch()
        yield hub
        await eventually(hub.idle)
        assert not any(dispatch.open_replies for dispatch in hub.dispatches)
        async with asyncio.timeout(10):
            while found := await hub.left():
                assert found
                await asyncio.sleep(0.02)


async def rest(reply: Reply) -> list[Item]:
    """Everything that still comes."""
    items: list[Item] = []
    try:
        async with asyncio.timeout(25):
            while not items or not isinstance(items[-1], LAST):
                items += await reply.items(30)
    finally:
        reply.close()
    return items


async def some(reply: Reply, count: int) -> list[Item]:
    """At least so many texts."""
    items: list[Item] = []
    async with asyncio.timeout(25):
        while sum(isinstance(item, Text) for item in items) < count:
            items += await reply.items(30)
    return items


def tokens(count: int) -> str:
    return "".join(f" t{index}" for index in range(count))


def text(items: list[Item], choice: int = 0) -> str:
    return "".join(i.text for i in items if isinstance(i, Text) and i.choice == choice)


def assert_whole(items: list[Item], count: int) -> None:
    assert text(items) == tokens(count)
    done = items[-1]
    assert isinstance(done, Done), done
    assert done.usage.completion == count
    assert sum(isinstance(item, Finish) for item in items) == 1
