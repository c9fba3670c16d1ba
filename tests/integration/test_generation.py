"""A request that waits for another's answer: what its client hears, and if none comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import pytest

from gateway.ask import Ask
from gateway.auth import Principal
from gateway.cache.kept import Kept
from gateway.cache.memory import Memory
from gateway.cache.responses import Responses, Turn
from gateway.cache.terms import USUAL
from gateway.counts import Counts
from gateway.dispatch import Dispatch
from gateway.exchange import Exchange
from gateway.routes.admission import Admission
from gateway.routes.chat import ChatRoute
from gateway.routes.generation import Generation
from gateway.semantic.semantic import Semantic
from gateway.worst import Worst
from shared.catalog import Catalog
from shared.errors import ClientClosed, HubError
from shared.settings import Model, Settings
from shared.wire.account import Account
from shared.wire.event import Answer, Choice, Usage
from tests.unit.gateway.test_exchange import Connection, part

BODY = json.dumps(
    {
        "model": "m",
        "messages": [{"role": "user", "content": "Is it?"}],
        "temperature": 0,
    }
).encode()
STREAMED = BODY[:-1] + b', "stream": true}'
KEPT = Kept(7, [Answer([Choice("yes", "stop")], Usage(3, 1))])
ACCOUNT = Account("key", "proj", "org", "mine", ("inference",))


class Gateway(NamedTuple):
    """The chat route, and the cache of another gateway that computes its answer."""

    route: ChatRoute
    ours: Responses
    turn: Turn


@pytest.fixture
async def gateway(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    monkeypatch.setattr("gateway.cache.responses.TELL_SECONDS", 0.01)
    model = Model(engine="openai", url="http://127.0.0.1:1/v1")
    settings = Settings(redis_url=valkey_url, models={"m": model}, request_timeout=60)
    catalog = Catalog(settings.models)
    dispatch = Dispatch(settings, catalog)
    ours, theirs = Responses(settings, "gw-1"), Responses(settings, "gw-2")
    semantic = Semantic(lambda: None, dispatch, catalog, ours)
    memory = Memory(ours, semantic, dispatch.sightings.files)
    admission = Admission(catalog, dict)
    counts = Counts(dispatch, ours)
    route = ChatRoute(Generation(settings, admission, dispatch, counts, memory))
    for one in (ours, theirs):
        await one.start()
    entry = catalog.find("m")
    asked = Ask("chat", entry, BODY, "interactive", admission.fingerprint(entry), Worst(1))
    place = ours.place(asked, ACCOUNT, "")
    found = await theirs.find(place, USUAL, asyncio.get_running_loop().time() + 60, nothing)
    assert isinstance(found, Turn)
    yield Gateway(route, ours, found)
    for one in (ours, theirs):
        await one.stop()


async def nothing() -> None: ...


def connect(body: bytes) -> tuple[Connection, Exchange]:
    connection = Connection(part(body))
    exchange = connection.exchange()
    exchange.principal = Principal(ACCOUNT)
    return connection, exchange


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not there():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def data(connection: Connection) -> str:
    return b"".join(message["body"] for message in connection.sent[1:]).decode()


async def test_a_stream_that_waits_hears_so_and_gets_the_answer(gateway: Gateway) -> None:
    connection, exchange = connect(STREAMED)
    answering = asyncio.create_task(gateway.route(exchange))
    await until(lambda: len(connection.sent) > 3)
    await gateway.turn.keep(KEPT)
    await answering
    assert connection.header(b"x-aihub-cache") == [b"joined"]
    events = data(connection).split("\n\n")
    assert events[0] == events[1] == ": waiting"
    assert json.loads(events[-4].removeprefix("data: "))["choices"][0]["delta"] == {
        "content": "yes"
    }
    assert events[-2] == "data: [DONE]"
    assert not connection.sent[-1]["more_body"]
    assert exchange.use.cache == "exact"


async def test_a_stream_that_waited_in_vain_ends_with_an_error_event(gateway: Gateway) -> None:
    """It takes over, and there is no worker."""
    connection, exchange = connect(STREAMED)
    answering = asyncio.create_task(gateway.route(exchange))
    await until(lambda: len(connection.sent) > 2)
    gateway.turn.close()
    await answering
    last = data(connection).split("\n\n")[-2]
    assert json.loads(last.removeprefix("data: "))["error"]["type"]
    assert not connection.sent[-1]["more_body"]
    assert exchange.use.code is not None
    assert not gateway.ours.flights._led


async def test_who_wants_it_in_one_piece_hears_nothing_before(gateway: Gateway) -> None:
    connection, exchange = connect(BODY)
    answering = asyncio.create_task(gateway.route(exchange))
    await until(lambda: bool(gateway.ours.flights._awaited))
    await gateway.turn.keep(KEPT)
    await answering
    assert connection.header(b"x-aihub-cache") == [b"joined"]
    assert connection.header(b"age") == [b"0"]
    found: Any = json.loads(data(connection))
    assert found["choices"][0]["message"]["content"] == "yes"
    assert found["created"] == KEPT.created


async def test_a_client_that_leaves_while_it_waits(gateway: Gateway) -> None:
    connection, exchange = connect(BODY)
    answering = asyncio.create_task(gateway.route(exchange))
    await until(lambda: bool(gateway.ours.flights._awaited))
    connection.gone.set()
    with pytest.raises(ClientClosed):
        await answering
    assert not connection.sent
    assert not gateway.ours.flights._awaited


async def test_a_refusal_of_the_one_who_takes_over_has_its_own_status(gateway: Gateway) -> None:
    _, exchange = connect(BODY)
    answering = asyncio.create_task(gateway.route(exchange))
    await until(lambda: bool(gateway.ours.flights._awaited))
    gateway.turn.close()
    with pytest.raises(HubError):
        await answering
    await until(lambda: not gateway.ours.flights._led)
