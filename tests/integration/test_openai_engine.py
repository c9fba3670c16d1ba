"""The OpenAI engine against a scripted upstream, and against a real one."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import uvloop

from shared.errors import EngineFailed, InvalidValue, Unavailable
from shared.settings import DEFAULT_MODELS, Model, Settings
from shared.wire.event import Usage
from tests import models
from tests.unit.worker.engines.recorder import Recorder
from worker.engines import exchange
from worker.engines.base import EngineLost, Generation
from worker.engines.llamacpp import LlamaCpp
from worker.engines.openai import OpenAi
from worker.engines.registry import build

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HELLO = [{"role": "user", "content": "Hello"}]
SAY = Generation(kind="chat", body={"messages": HELLO, "max_tokens": 50})
EVENTS = (
    b": ping\n\n"
    b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"content":"Z\xc3\xbcr"}}]}\r\n\r\n'
    b'data: {"choices":[{"index":0,"delta":{"content":"ich"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}\n\n'
    b"data: [DONE]\n\n"
)
PIECES = 10_000
"""Of 1 kB: more than the buffers of two sockets hold."""
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, Any]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    body = await reader.readexactly(length)
    return head, json.loads(body) if body else None


def answering(*pieces: bytes, seen: list[Any] | None = None) -> Handler:
    """A server that writes `pieces` one by one and closes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        if seen is not None:
            seen.append(request)
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
        writer.close()

    return handle


@asynccontextmanager
async def scripted(handle: Handler, **model: Any) -> AsyncIterator[OpenAi]:
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield OpenAi("m", Model(engine="openai", url=f"http://127.0.0.1:{port}/v1", **model))
    finally:
        server.close()
        await server.wait_closed()


async def said(*pieces: bytes) -> tuple[Recorder, Usage]:
    async with scripted(answering(*pieces)) as engine:
        sink = Recorder()
        return sink, await asyncio.wait_for(engine.generate(SAY, sink), 10)


async def test_reads_a_stream_however_it_is_cut() -> None:
    whole = STREAM + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(EVENTS, 37)
    plain = STREAM + b"Connection: close\r\n\r\n" + EVENTS
    for answer in (whole, plain):
        for at in range(1, len(answer), 11):
            sink, usage = await said(answer[:at], answer[at:])
            assert sink.content == "Zürich"
            assert sink.reasons == ["stop"]
            assert usage == Usage(9, 2)


def test_reads_a_stream_under_uvloop() -> None:
    sink, usage = uvloop.run(said(STREAM + b"\r\n" + EVENTS))
    assert (sink.content, usage) == ("Zürich", Usage(9, 2))


async def test_what_the_upstream_is_asked() -> None:
    seen: list[Any] = []
    handle = answering(STREAM + b"\r\n" + EVENTS, seen=seen)
    async with scripted(handle, upstream_model="theirs", api_key="sk-theirs") as engine:
        body = {"messages": HELLO, "max_tokens": 50, "seed": 3, "unknown": {"a": 1}}
        resumed = Generation(kind="chat", body=body, resume="x" * 40, pieces=10)
        await engine.generate(resumed, Recorder())
    head, sent = seen[0]
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert b"Authorization: Bearer sk-theirs\r\n" in head
    assert sent == {
        "messages": [*HELLO, {"role": "assistant", "content": "x" * 40}],
        "max_tokens": 40,
        "seed": 3,
        "unknown": {"a": 1},
        "model": "theirs",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert body["messages"] is HELLO


async def test_a_limit_beyond_32_bits_is_cut() -> None:
    seen: list[Any] = []
    async with scripted(answering(STREAM + b"\r\n" + EVENTS, seen=seen)) as engine:
        body = {"messages": HELLO, "max_completion_tokens": 2**70}
        await engine.generate(Generation(kind="chat", body=body), Recorder())
    assert seen[0][1]["max_completion_tokens"] == 2**31 - 1


async def test_nothing_left_to_generate() -> None:
    async with scripted(answering(b"")) as engine:
        sink = Recorder()
        body = {"messages": HELLO, "max_tokens": 3}
        await engine.generate(Generation(kind="chat", body=body, resume="xxx", pieces=3), sink)
        assert (sink.texts, sink.reasons) == ([], ["length"])


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (
            b"HTTP/1.1 400 Bad\r\nContent-Length: 27\r\n\r\n" + b'{"error":{"message":"no!"}}',
            InvalidValue,
            "no!",
        ),
        (b"HTTP/1.1 503 Busy\r\n\r\n", Unavailable, "overloaded"),
        (STREAM + b'\r\ndata: {"error":{"message":"boom"}}\n\n', EngineFailed, "boom"),
        (STREAM + b"\r\n" + EVENTS[:150], EngineLost, "middle"),
        (STREAM + b"Transfer-Encoding: chunked\r\n\r\n40\r\n" + EVENTS[:20], EngineLost, "closed"),
        (STREAM + b"\r\ndata: {]\n\n", EngineLost, "another shape"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", EngineFailed, "without streaming"),
        (b"SSH-2.0-OpenSSH\r\n", EngineLost, "does not speak HTTP"),
        (b"", EngineLost, "closed"),
    ],
)
async def test_failures(answer: bytes, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        await said(answer)


async def test_endless_replies_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "LONGEST_BODY", 1000)
    with pytest.raises(EngineLost, match="too long"):
        await said(b"HTTP/1.1 500 No\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000)


async def test_cancelling_cuts_the_connection() -> None:
    cut = asyncio.Event()
    begun = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(STREAM + b"\r\n" + EVENTS[:200])
        begun.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        cut.set()
        writer.close()

    async with scripted(handle) as engine, asyncio.timeout(10):
        task = asyncio.create_task(engine.generate(SAY, Recorder()))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await cut.wait()


async def test_a_held_stream_stops_the_upstream() -> None:
    piece = b'data: {"choices":[{"index":0,"delta":{"content":"' + b"x" * 1000 + b'"}}]}\n\n'
    stuck = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(STREAM + b"\r\n")
        for _ in range(PIECES):
            writer.write(piece)
            drained = asyncio.ensure_future(writer.drain())
            if not (await asyncio.wait({drained}, timeout=1))[0]:
                stuck.set()
            await drained
        writer.write(EVENTS)
        writer.close()

    class Holding(Recorder):
        def text(self, text: str) -> None:
            super().text(text)
            if not stuck.is_set():
                assert self.source is not None
                self.source.pause_reading()

    async with scripted(handle) as engine, asyncio.timeout(60):
        sink = Holding()
        task = asyncio.create_task(engine.generate(SAY, sink))
        await stuck.wait()
        held = len(sink.texts)
        assert held < 1000
        assert sink.source is not None
        sink.source.resume_reading()
        await task
        assert len(sink.content) == PIECES * 1000 + len("Zürich")


async def test_reachability() -> None:
    async with scripted(answering(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")) as engine:
        assert not engine.alive
        await engine.start()
        assert engine.alive
        ended = asyncio.create_task(engine.ended())
    with pytest.raises(EngineLost):
        await engine.generate(SAY, Recorder())
    await asyncio.wait_for(ended, 5)
    assert not engine.alive
    with pytest.raises(EngineFailed, match="does not answer"):
        await engine.start()
    refusing = answering(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
    async with scripted(refusing) as engine:
        with pytest.raises(EngineFailed, match="refuses our key"):
            await engine.start()


async def test_embeddings_as_lists_or_base64() -> None:
    rows = [
        {"index": 1, "embedding": [0.0, 1.0]},
        {"index": 0, "embedding": "AACAPwAAAAA="},
    ]
    body = json.dumps({"data": rows, "usage": {"prompt_tokens": 4, "total_tokens": 4}}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with scripted(answering(head + body)) as engine:
        vectors = await engine.embed(["a", "b"], 2)
    assert (vectors.count, vectors.width, vectors.usage) == (2, 2, Usage(4))
    assert np.frombuffer(vectors.data, "<f4").tolist() == [1, 0, 0, 1]


async def test_a_real_upstream_on_a_socket(tmp_path: Path) -> None:
    """The llama.cpp child of ours, seen as somebody's OpenAI server."""
    models.lend(tmp_path)
    settings = Settings(home=str(tmp_path))
    served = LlamaCpp(
        "m", msgspec.structs.replace(DEFAULT_MODELS[models.CHAT], threads=1), settings
    )
    await served.start()
    try:
        socket = next((tmp_path / "run").glob("*.sock"))
        engine = build("m", Model(engine="openai", url=f"unix:{socket}"), settings)
        await engine.start()
        body = {"messages": HELLO, "max_tokens": 12, "temperature": 0}
        whole = Recorder()
        usage = await engine.generate(Generation(kind="chat", body=body), whole)
        assert usage.completion > 4
        first = "".join(whole.texts[:4])
        rest = Recorder()
        await engine.generate(
            Generation(kind="chat", body={**body, "max_tokens": 30}, resume=first), rest
        )
        assert (first + rest.content).startswith(whole.content)
        logged = Recorder()
        asked = {"prompt": "Once upon a", "max_tokens": 2, "logprobs": 1}
        await engine.generate(Generation(kind="completion", body=asked), logged)
        assert len(logged.logprobs) == 2
        await engine.stop()
    finally:
        await served.stop()
