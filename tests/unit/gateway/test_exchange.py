"""One request and its reply, spoken in ASGI messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.exchange import Exchange, Presence
from shared.errors import BodyTooLarge, ClientClosed, QueueFull

LIMIT = 100


class Connection:
    """The server's side: gives these messages, then waits; keeps what is sent."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = list(messages)
        self.sent: list[dict[str, Any]] = []
        self.received = 0
        self.gone = asyncio.Event()

    async def receive(self) -> Any:
        if self.messages:
            self.received += 1
            return self.messages.pop(0)
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def exchange(self, method: str = "POST", **headers: str) -> Exchange:
        scope: Any = {
            "type": "http",
            "method": method,
            "path": "/v1/models/a b",
            "raw_path": b"/v1/models/a%20b",
            "query_string": b"",
            "headers": [
                (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
            ],
        }
        return Exchange(scope, self.receive, self.send)

    def header(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.sent[0]["headers"] if key == name]


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_in_parts_is_joined() -> None:
    connection = Connection(part(b"ab", more=True), part(b"", more=True), part(b"c"))
    assert await connection.exchange().read(LIMIT) == b"abc"


async def test_a_declared_length_beyond_the_limit_is_refused_unread() -> None:
    connection = Connection(part(b"x"))
    with pytest.raises(BodyTooLarge):
        await connection.exchange(content_length=str(LIMIT + 1)).read(LIMIT)
    assert connection.received == 0


async def test_an_undeclared_body_is_read_up_to_the_limit_only() -> None:
    connection = Connection(*(part(b"x" * 60, more=True) for _ in range(10)))
    with pytest.raises(BodyTooLarge):
        await connection.exchange().read(LIMIT)
    assert connection.received == 2


async def test_a_client_that_leaves_while_it_uploads() -> None:
    connection = Connection(part(b"x", more=True))
    connection.gone.set()
    with pytest.raises(ClientClosed):
        await connection.exchange().read(LIMIT)


async def test_every_reply_can_be_traced() -> None:
    connection = Connection()
    exchange = connection.exchange(x_client_request_id="mine")
    await exchange.respond(200, b"{}")
    assert connection.header(b"x-request-id") == [exchange.id.encode()]
    assert connection.header(b"x-client-request-id") == [b"mine"]
    assert connection.header(b"content-length") == [b"2"]


@pytest.mark.parametrize("given", ["a b", "x" * 513, "é", ""])
async def test_an_id_that_is_not_sane_is_not_echoed(given: str) -> None:
    connection = Connection()
    await connection.exchange(x_client_request_id=given).respond(200, b"{}")
    assert connection.header(b"x-client-request-id") == []


async def test_a_refusal_says_when_to_come_back() -> None:
    connection = Connection()
    await connection.exchange().refuse(QueueFull("Full.", retry_after=1.5).failed())
    assert connection.sent[0]["status"] == 429
    assert connection.header(b"retry-after") == [b"2"]
    assert connection.header(b"retry-after-ms") == [b"1500"]


async def test_head_has_no_body() -> None:
    connection = Connection()
    await connection.exchange("HEAD").respond(200, b"{}")
    assert connection.sent[1]["body"] == b""
    assert connection.header(b"content-length") == [b"2"]


def test_the_path_is_decoded() -> None:
    assert Connection().exchange().path == "/v1/models/a b"


async def wait_in(presence: Presence, entered: Callable[[], None]) -> None:
    with presence:
        entered()
        await asyncio.Event().wait()


async def test_a_departure_ends_the_wait() -> None:
    connection = Connection()
    waiting = asyncio.create_task(wait_in(Presence(connection.exchange(), 60), connection.gone.set))
    with pytest.raises(ClientClosed):
        await asyncio.wait_for(waiting, 5)


async def test_who_left_before_being_watched_is_noticed_then() -> None:
    connection = Connection()
    connection.gone.set()
    entered = asyncio.Event()
    presence = Presence(connection.exchange(), 60, 0.02)
    waiting = asyncio.create_task(wait_in(presence, entered.set))
    await entered.wait()
    with pytest.raises(ClientClosed):
        await asyncio.wait_for(waiting, 5)


async def test_who_is_answered_before_being_watched_costs_no_watch() -> None:
    connection = Connection()
    with Presence(connection.exchange(), 60, 30):
        connection.gone.set()
        before = len(asyncio.all_tasks())
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == before == 1


async def test_a_client_that_does_not_read_ends_the_wait() -> None:
    connection = Connection()
    waiting = asyncio.create_task(wait_in(Presence(connection.exchange(), 0), lambda: None))
    with pytest.raises(ClientClosed):
        await asyncio.wait_for(waiting, 5)


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    connection = Connection()
    entered = asyncio.Event()
    waiting = asyncio.create_task(wait_in(Presence(connection.exchange(), 60), entered.set))
    await entered.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
