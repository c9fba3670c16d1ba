"""HTTP/1.1 on a unix socket, one request a connection, by the standard library alone."""

from __future__ import annotations

import asyncio
import base64
import json
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worker.engines.transformers_child.batch import Batch, Said
from worker.engines.transformers_child.encoder import Encoder
from worker.engines.transformers_child.model import Language
from worker.engines.transformers_child.options import Request
from worker.engines.transformers_child.refusal import Refusal
from worker.engines.transformers_child.running import Chunk, Running, Speech

LONGEST_BODY = 256 * 1024 * 1024
"""Bytes; the gateway's own bound is lower."""
NOT_LOADED = "adapter_not_loaded"
HEAD = "HTTP/1.1 {} -\r\nContent-Type: {}\r\nConnection: close\r\n{}\r\n"

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


class Server:
    """Answers /generate (a stream of chunks), /embed, /adapters/load and unload, /sleep, /wake."""

    def __init__(self, model: Language | Encoder, speech: Speech | None, batch: Batch) -> None:
        self._model = model
        self._speech = speech
        self._batch = batch
        self._streams: dict[Running, asyncio.Queue[Chunk]] = {}
        self._adapters: set[str] = set()
        """Those that requests may ask for; one that is being unloaded is in it no more."""
        self._routes: dict[str, Callable[[Any], Any]] = {
            "/embed": self._embed,
            "/sleep": lambda _: self._model.sleep(),
            "/wake": lambda _: self._model.wake(),
        }

    def deliver(self, said: list[Said]) -> None:
        """On the server's loop: what a step gave, to those who still listen."""
        for running, chunk in said:
            stream = self._streams.get(running)
            if stream is not None:
                stream.put_nowait(chunk)

    async def answer(self, reader: Reader, writer: Writer) -> None:
        """One connection."""
        try:
            path, body = await request(reader)
            try:
                if path == "/generate":
                    await self._stream(body, reader, writer)
                elif path.startswith("/adapters/"):
                    await self._adapt(path, json.loads(body))
                    whole(writer, 200, None)
                else:
                    whole(writer, 200, await self._perform(path, body))
            except Refusal as refusal:
                whole(writer, 400, refusal.body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # who asked went away
        finally:
            writer.close()

    async def _perform(self, path: str, body: bytes) -> Any:
        route = self._routes.get(path)
        if route is None:
            raise Refusal(f"There is no {path}.")
        told = json.loads(body or b"{}")
        return await asyncio.wrap_future(self._batch.call(lambda: route(told)))

    async def _stream(self, body: bytes, reader: Reader, writer: Writer) -> None:
        asked = Request.decode(body)
        speech = self._speech
        if speech is None or not isinstance(self._model, Language):
            raise Refusal("This model makes embeddings only.", param="model")
        running = await asyncio.to_thread(Running, asked, speech)
        if running.adapter and running.adapter not in self._adapters:
            raise Refusal("The adapter is not loaded.", code=NOT_LOADED)
        chunks = self._streams[running] = asyncio.Queue()
        gone = asyncio.ensure_future(reader.read(1))
        writer.write(HEAD.format(200, "text/event-stream", "").encode())
        self._batch.submit(running)
        try:
            while True:
                following = asyncio.ensure_future(chunks.get())
                await asyncio.wait({following, gone}, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    following.cancel()
                    return
                chunk = following.result()
                writer.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
                await writer.drain()
                if "error" in chunk or "finish_reason" in chunk["choices"][0]:
                    writer.write(b"data: [DONE]\n\n")
                    return
        finally:
            del self._streams[running]
            self._batch.cancel(running)
            gone.cancel()

    def _embed(self, told: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(self._model, Encoder):
            raise Refusal("This model makes no embeddings.", param="model")
        rows, tokens = self._model.embed(told["input"])
        data = b"".join(array("f", row).tobytes() for row in rows)
        width = len(rows[0]) if rows else 0
        return {"rows": len(rows), "width": width, "tokens": tokens, "data": text(data)}

    async def _adapt(self, path: str, told: dict[str, Any]) -> None:
        if not isinstance(self._model, Language):
            raise Refusal("An embedding model takes no adapters.", param="model")
        name, adapters = str(told["name"]), self._model.adapters
        if path == "/adapters/load":
            folder = Path(told["path"])
            await asyncio.wrap_future(self._batch.call(lambda: adapters.load(name, folder)))
            self._adapters.add(name)
            return
        if any(running.adapter == name for running in self._streams):
            raise Refusal("The adapter is in use.", param="adapter")
        self._adapters.discard(name)
        await asyncio.wrap_future(self._batch.call(lambda: adapters.unload(name)))


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def request(reader: Reader) -> tuple[str, bytes]:
    """Path and body; raises ConnectionError for what is no request."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    size = int(fields.get("content-length", "0"))
    if size > LONGEST_BODY or len(lines[0].split()) != 3:
        raise ConnectionError("no request")
    return lines[0].split()[1], await reader.readexactly(size)


def whole(writer: Writer, status: int, told: Any) -> None:
    body = json.dumps(told).encode()
    length = f"Content-Length: {len(body)}\r\n"
    writer.write(HEAD.format(status, "application/json", length).encode() + body)
