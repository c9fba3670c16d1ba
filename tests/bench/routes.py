"""What Litestar costs per request: prints the table of docs/decisions/0004.

`python -m tests.bench.routes`; in one process, no server, the same request again and again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from litestar import Litestar, asgi, post
from litestar.types import Receive, Scope, Send

from tests.bench.figures import table

BODY = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'
REQUESTS = 5_000
ROUNDS = 5

App = Callable[[Any, Any, Any], Awaitable[None]]


class Message(msgspec.Struct):
    role: str
    content: str


class Request(msgspec.Struct):
    model: str
    messages: list[Message]


decode = msgspec.json.Decoder(Request).decode


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    message = await receive()
    decode(message["body"])  # type: ignore[typeddict-item]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}", "more_body": False})


@asgi("/raw", copy_scope=False)
async def raw(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(scope, receive, send)


@post("/typed", status_code=200)
async def typed(data: Request) -> dict[str, str]:
    return {}


async def microseconds(app: App, path: str) -> float:
    """CPU time of one request."""

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: object) -> None:
        return None

    began = time.process_time()
    for _ in range(REQUESTS):
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
            "server": ("127.0.0.1", 80),
            "client": ("127.0.0.1", 1),
            "scheme": "http",
            "http_version": "1.1",
            "root_path": "",
            "extensions": {},
            "state": {},
        }
        await app(scope, receive, send)
    return (time.process_time() - began) / REQUESTS * 1e6


async def main() -> None:
    hub = Litestar([raw, typed], openapi_config=None)
    ways: list[tuple[str, App, str]] = [
        ("the function alone", answer, "/raw"),
        ("`@asgi` route in Litestar", hub, "/raw"),
        ("typed handler (`data: Struct`)", hub, "/typed"),
    ]
    best = {
        name: min([await microseconds(app, path) for _ in range(ROUNDS)])
        for name, app, path in ways
    }
    print(table("One request, in process", ["way", "CPU µs"], list(best.items())))


if __name__ == "__main__":
    asyncio.run(main())
