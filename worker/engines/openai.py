"""Any server that speaks the OpenAI wire: another hub, vLLM, llama-server, a vendor."""

from __future__ import annotations

import asyncio
import struct
from base64 import b64decode
from typing import Any

import msgspec

from shared.errors import EngineFailed
from shared.settings import Model
from shared.wire.event import Usage, Vectors
from worker.engines.base import (
    EngineLost,
    Generation,
    Sink,
    Sleepless,
    Unadaptable,
    Unwatched,
)
from worker.engines.chunks import ChunkReader, Counts
from worker.engines.exchange import Refused
from worker.engines.logprobs import SameLogprobs
from worker.engines.refusal import Subject, clean, complaint, from_status
from worker.engines.resuming import continue_behind
from worker.engines.upstream import Address, EngineUnreachable, Upstream

START_TIMEOUT = 20.0
PATHS = {"chat": "/chat/completions", "completion": "/completions"}
SUBJECTS: dict[str, Subject] = {"chat": "messages", "completion": "prompt"}

LIMITS = ("max_tokens", "max_completion_tokens")
MOST_TOKENS = 2**31 - 1
"""Larger limits are cut to it: upstreams keep them in 32 bits."""


class Row(msgspec.Struct):
    index: int
    embedding: str | list[float]


class Reply(msgspec.Struct):
    data: list[Row]
    usage: Counts = msgspec.field(default_factory=Counts)


class OpenAi(Sleepless, Unadaptable, Unwatched):
    """A base.Engine that is not ours to start; `start` only makes sure that it answers.

    A resumed choice is continued as a prefilled assistant message, which vLLM, llama.cpp and
    others continue; its earlier pieces are taken for one token each. What the upstream cannot
    do, it refuses itself; its refusals are passed on.
    """

    def __init__(self, name: str, model: Model) -> None:
        self._name = name
        self._model = model.upstream_model or name
        key = {"Authorization": f"Bearer {model.api_key}"} if model.api_key else {}
        self._upstream = Upstream(Address.parse(model.url or ""), key, keep=True)
        self._reachable = False
        self._over = asyncio.Event()

    @property
    def alive(self) -> bool:
        return self._reachable

    async def start(self) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await self._upstream.call("GET", "/models")
        except TimeoutError:
            raise EngineFailed(f"The upstream of {self._name} does not answer in time.") from None
        except Refused as refused:
            if refused.status in (401, 403):
                said = clean(complaint(refused.body).message)
                raise EngineFailed(
                    f"The upstream of {self._name} refuses our key. {said}"
                ) from None
        except EngineLost as error:
            raise EngineFailed(f"The upstream of {self._name} does not answer: {error}") from error
        self._reachable = True
        self._over.clear()

    async def stop(self) -> None:
        self._reachable = False
        self._upstream.close()
        self._over.set()

    async def ended(self) -> None:
        await self._over.wait()

    def pids(self) -> list[int]:
        return []

    async def generate(self, generation: Generation, sink: Sink) -> Usage:
        self.refuse_adapter(generation)
        body: dict[str, Any] = {
            **generation.body,
            "model": self._model,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        for name in LIMITS:
            if name in body:
                body[name] = min(body[name], MOST_TOKENS)
        spent = 0
        if generation.resume:
            if isinstance(body.get("prompt"), list):
                raise EngineLost("a prompt of token ids cannot be continued with text")
            spent = generation.pieces
            continue_behind(body, generation.resume, spent)
            if min(body.get(name, 1) for name in LIMITS) <= 0:
                sink.finish("length")
                return Usage(0, spent)
        subject = SUBJECTS[generation.kind]
        asked = body.get("logprobs") not in (None, False)
        reader = ChunkReader(
            sink, logprobs=SameLogprobs() if asked else None, subject=subject, spent=spent
        )
        try:
            await self._upstream.stream(
                PATHS[generation.kind], msgspec.json.encode(body), reader.take, sink.attach
            )
        except Refused as refused:
            raise from_status(refused.status, refused.body, subject) from None
        except EngineUnreachable:
            await self.stop()
            raise
        usage = reader.close()
        return Usage(
            max(0, usage.prompt - spent), usage.completion + spent, usage.cached, usage.reasoning
        )

    async def embed(self, inputs: list[str] | list[list[int]], dimensions: int | None) -> Vectors:
        body: dict[str, Any] = {"model": self._model, "input": inputs, "encoding_format": "base64"}
        if dimensions is not None:
            body["dimensions"] = dimensions
        try:
            answer = await self._upstream.call("POST", "/embeddings", msgspec.json.encode(body))
        except Refused as refused:
            raise from_status(refused.status, refused.body, "input") from None
        except EngineUnreachable:
            await self.stop()
            raise
        try:
            reply = msgspec.json.decode(answer, type=Reply)
        except msgspec.MsgspecError as error:
            raise EngineFailed(f"The upstream's embeddings have another shape: {error}") from error
        return vectors(reply)


def vectors(reply: Reply) -> Vectors:
    """Rows in order, as little-endian float32."""
    rows = [floats(row.embedding) for row in sorted(reply.data, key=lambda row: row.index)]
    width = len(rows[0]) if rows else 0
    if any(len(row) != width for row in rows):
        raise EngineFailed("The upstream's vectors differ in length.")
    return Vectors(len(rows), width // 4, b"".join(rows), reply.usage.usage())


def floats(embedding: str | list[float]) -> bytes:
    if isinstance(embedding, str):
        return b64decode(embedding)
    return struct.pack(f"<{len(embedding)}f", *embedding)
