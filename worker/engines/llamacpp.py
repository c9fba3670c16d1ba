"""The engine of one GGUF file: llama.cpp in a child process of ours."""

from __future__ import annotations

from typing import Any

import msgspec

from shared.settings import Model, Settings
from shared.wire.event import Usage, Vectors
from worker.engines import shape
from worker.engines.base import Generation, Sink
from worker.engines.chunks import ChunkReader
from worker.engines.embedding import Embedder
from worker.engines.llamacpp_server import LlamaServer
from worker.engines.refusal import Subject, check_ids, from_status
from worker.engines.resuming import continue_behind
from worker.engines.toolcalls import CallReader
from worker.engines.upstream import Refused

PATHS = {"chat": "/v1/chat/completions", "completion": "/v1/completions"}
SUBJECTS: dict[str, Subject] = {"chat": "messages", "completion": "prompt"}


class Tokens(msgspec.Struct):
    tokens: list[int]


class Prompt(msgspec.Struct):
    prompt: str


class LlamaCpp:
    """A base.Engine.

    Usage after a resumed attempt: the prompt is counted anew by the engine's tokenizer and is
    exact; the resumed text counts as many completion tokens as that tokenizer makes of it, which
    can differ from what was generated where the model spelled a word in unusual tokens.
    """

    def __init__(self, name: str, model: Model, settings: Settings) -> None:
        self._server = LlamaServer(name, model, settings)
        self._embedder = Embedder(model, self._server, settings.folder / "models")

    @property
    def alive(self) -> bool:
        return self._server.alive

    @property
    def pid(self) -> int:
        """The child's process id, 0 when there is none."""
        return self._server.pid

    async def start(self) -> None:
        self._embedder.check_files()
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop()

    async def ended(self) -> None:
        await self._server.ended()

    async def embed(self, inputs: list[str] | list[list[int]], dimensions: int | None) -> Vectors:
        return await self._embedder.embed(inputs, dimensions)

    async def generate(self, generation: Generation, sink: Sink) -> Usage:
        shaped = self._shape(generation)
        if shaped.echo and not generation.resume:
            sink.text(shaped.echo)
        resume = generation.resume[len(shaped.echo) :]
        spent = 0
        if resume:
            ids = await self._tokenize(resume)
            spent = len(ids)
            continue_behind(shaped.body, resume, spent, ids)
        if shaped.body.get("max_tokens", 1) <= 0:
            sink.finish("length")
            return Usage(await self._count_prompt(generation), spent)
        usage = await self._stream(generation.kind, shaped, resume, sink)
        if not resume:
            return usage
        prompt = await self._count_prompt(generation)
        return Usage(prompt, usage.completion + spent, min(usage.cached, prompt))

    async def _stream(self, kind: str, shaped: shape.Shaped, resume: str, sink: Sink) -> Usage:
        calls = CallReader() if shaped.forced else None
        if calls is not None:
            calls.skip(resume)
        subject = SUBJECTS[kind]
        reader = ChunkReader(sink, calls=calls, logprobs=shaped.logprobs, subject=subject)
        body = msgspec.json.encode(shaped.body)
        try:
            await self._server.upstream.stream(PATHS[kind], body, reader.take, sink.attach)
        except Refused as refused:
            raise from_status(refused.status, refused.body, subject, shaped.schema_param) from None
        return reader.close()

    def _shape(self, generation: Generation) -> shape.Shaped:
        if generation.kind == "chat":
            return shape.chat(
                generation.body, tools=self._server.tools, context=self._server.context
            )
        shaped = shape.completion(
            generation.body, len(generation.resume), context=self._server.context
        )
        if isinstance(shaped.body["prompt"], list):
            check_ids(shaped.body["prompt"], self._server.sizes.n_vocab, "prompt")
        return shaped

    async def _ask(self, path: str, body: dict[str, Any]) -> bytes:
        try:
            return await self._server.upstream.call("POST", path, msgspec.json.encode(body))
        except Refused as refused:
            raise from_status(refused.status, refused.body, "prompt") from None

    async def _tokenize(self, text: str, *, special: bool = False) -> list[int]:
        body = {"content": text, "add_special": special, "parse_special": special}
        return msgspec.json.decode(await self._ask("/tokenize", body), type=Tokens).tokens

    async def _count_prompt(self, generation: Generation) -> int:
        """Tokens of the prompt alone, as the engine counts them."""
        body = self._shape(generation).body
        if generation.kind == "completion":
            prompt = body["prompt"]
            if isinstance(prompt, list):
                return len(prompt)
            return len(await self._tokenize(prompt, special=True))
        told = {name: value for name, value in body.items() if name in ("messages", "tools")}
        reply = await self._ask("/apply-template", told)
        rendered = msgspec.json.decode(reply, type=Prompt).prompt
        return len(await self._tokenize(rendered, special=True))
