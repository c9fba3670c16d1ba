"""The OpenAI engine over TLS, before a server whose certificate the test makes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from shared.errors import EngineFailed
from shared.settings import Model
from tests.unit.worker.engines.recorder import Recorder
from worker.engines.base import EngineLost, Generation
from worker.engines.openai import OpenAi
from worker.engines.upstream import Address

SAY = Generation(kind="chat", body={"messages": [{"role": "user", "content": "Hello"}]})
EVENTS = (
    b'data: {"choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n\n"
)
CLIENT_HELLO = b"\x16"
MODELS = b'{"object":"list","data":[]}'


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    first = await reader.readexactly(1)
    if first == CLIENT_HELLO:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        return
    head = first + await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
    kind, body = b"application/json", MODELS
    if head.startswith(b"POST"):
        kind, body = b"text/event-stream", EVENTS
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n" % kind)
    writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    await writer.drain()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and the certificate of localhost that it signed itself."""
    folder = tmp_path_factory.mktemp("tls")
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    argv += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    argv += ["-keyout", str(folder / "key"), "-out", str(folder / "crt")]
    subprocess.run(argv, check=True, capture_output=True, timeout=30)
    whole = folder / "both.pem"
    whole.write_text((folder / "key").read_text() + (folder / "crt").read_text())
    return whole


@asynccontextmanager
async def served(context: ssl.SSLContext | None) -> AsyncIterator[OpenAi]:
    handlers: list[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.append(task)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await answer(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        yield OpenAi("m", Model(engine="openai", url=f"https://localhost:{port}/v1"))
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.wait_for(asyncio.gather(*handlers), 10)


def context(certificate: Path) -> ssl.SSLContext:
    chosen = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    chosen.load_cert_chain(certificate)
    return chosen


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_certificate_nobody_vouches_for_is_refused(
    certificate: Path, run: Callable[..., None]
) -> None:
    async def ask() -> None:
        async with served(context(certificate)) as engine:
            with pytest.raises(EngineFailed, match="certificate of localhost is not trusted: self"):
                await engine.start()

    run(ask())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_trusted_one_is_spoken_to(
    certificate: Path, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    async def ask() -> None:
        async with served(context(certificate)) as engine:
            await engine.start()
            sink = Recorder()
            await engine.generate(SAY, sink)
            assert (sink.content, sink.reasons) == ("Hello", ["stop"])

    run(ask())


async def test_a_server_without_tls_is_said_to_be_one() -> None:
    async with served(None) as engine:
        with pytest.raises(EngineFailed, match="does not answer: the engine does not speak TLS"):
            await engine.start()
        with pytest.raises(EngineLost, match="does not speak TLS"):
            await engine.generate(SAY, Recorder())


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://h/v1/", Address("", "h", 443, "/v1", True)),
        ("https://h:8443", Address("", "h", 8443, "", True)),
        ("http://h/v1", Address("", "h", 80, "/v1")),
        ("unix:/run/a.sock", Address("/run/a.sock", "localhost", 0, "/v1")),
    ],
)
def test_addresses(url: str, address: Address) -> None:
    assert Address.parse(url) == address
