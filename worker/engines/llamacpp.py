"""The engine of one GGUF file: llama.cpp in a child process of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from shared import log
from shared.errors import EngineFailed, HubError, InvalidValue, ModelUnavailable, UnsupportedValue
from shared.settings import Model, Settings
from shared.wire.event import Usage, Vectors
from shared.wire.node import LoadProgress
from worker.engines import shape
from worker.engines.base import EngineLost, Generation, Sink, Sleepless
from worker.engines.chunks import ChunkReader
from worker.engines.embedding import Embedder
from worker.engines.exchange import Refused
from worker.engines.llamacpp_conversion import prepare
from worker.engines.llamacpp_server import LlamaServer
from worker.engines.llamacpp_succession import Adapters, Succession
from worker.engines.refusal import Subject, check_ids, from_status
from worker.engines.resuming import continue_behind
from worker.engines.toolcalls import CallReader

logger = log.get("llamacpp")

PATHS = {"chat": "/v1/chat/completions", "completion": "/v1/completions"}
SUBJECTS: dict[str, Subject] = {"chat": "messages", "completion": "prompt"}


class Tokens(msgspec.Struct):
    tokens: list[int]


class Prompt(msgspec.Struct):
    prompt: str


class LlamaCpp(Sleepless):
    """A base.Engine.

    Usage after a resumed attempt: the prompt is counted anew by the engine's tokenizer and is
    exact; the resumed text counts as many completion tokens as that tokenizer makes of it, which
    can differ from what was generated where the model spelled a word in unusual tokens.

    A new adapter needs a new child. `may_double` is asked whether the device has room for two at
    once; then no request waits. A forgotten adapter's memory comes back with the next new child.
    """

    def __init__(self, name: str, model: Model, settings: Settings) -> None:
        self.can_adapt = model.kind == "chat"
        self.may_double: Callable[[], bool] = lambda: False
        self._name = name
        self._model = model
        self._settings = settings
        self._servers = Succession(self._make)
        self._adapters: dict[str, Path] = {}
        self._sources: dict[str, Path] = {}
        self._adapting = asyncio.Lock()
        self._folder = settings.folder / "models"
        self._embedder = Embedder(model, lambda: self._servers.current, self._folder)

    @property
    def alive(self) -> bool:
        return self._servers.alive

    @property
    def pid(self) -> int:
        """The answering child's process id, 0 when there is none."""
        return self._servers.current.pid

    def pids(self) -> list[int]:
        return self._servers.pids()

    def progress(self) -> LoadProgress | None:
        return self._servers.progress()

    async def start(self) -> None:
        self._embedder.check_files()
        try:
            await self._servers.start(dict(self._adapters))
        except EngineFailed:
            if not self._adapters:
                raise
            logger.warning("started without its adapters", model=self._name)
            self._forget(list(self._adapters))
            await self._servers.start({})

    async def stop(self) -> None:
        await self._servers.stop()

    async def ended(self) -> None:
        await self._servers.ended()

    async def load_adapter(self, name: str, path: str) -> None:
        if not self.can_adapt:
            raise UnsupportedValue("An embedding model takes no adapters.", param="model")
        errors = await self.load_adapters({name: path})
        if name in errors:
            raise errors[name]

    async def load_adapters(self, paths: Mapping[str, str]) -> dict[str, Exception]:
        async with self._adapting:
            if not paths:
                await self._servers.switch(dict(self._adapters), self.may_double)
            errors = await self._prepare_all(paths)
            fresh = [name for name in paths if name not in errors and not self._has(name)]
            failed = await self._switch(fresh)
            if failed is None:
                return errors
            if len(fresh) == 1:
                return errors | {fresh[0]: failed}
            # One of them is to blame: each by itself.
            for name in fresh:
                await self._prepare(name, paths[name])
                if (alone := await self._switch([name])) is not None:
                    errors[name] = alone
            return errors

    async def unload_adapter(self, name: str) -> None:
        self._forget([name])

    async def single(self) -> None:
        await self._servers.single()

    async def embed(self, inputs: list[str] | list[list[int]], dimensions: int | None) -> Vectors:
        return await self._embedder.embed(inputs, dimensions)

    async def generate(self, generation: Generation, sink: Sink) -> Usage:
        async with self._servers.use() as server:
            chosen = self._number(server, generation.adapter)
            return await Request(server, generation, chosen).run(sink)

    def _make(self, adapters: Adapters) -> LlamaServer:
        return LlamaServer(self._name, self._model, self._settings, adapters)

    def _number(self, server: LlamaServer, adapter: str | None) -> int | None:
        if adapter is None:
            return None
        if adapter not in self._adapters or adapter not in server.adapters:
            raise ModelUnavailable(f"The adapter {adapter!r} is not loaded.", param="model")
        return list(server.adapters).index(adapter)

    def _has(self, name: str) -> bool:
        return self._servers.current.adapters.get(name) == self._adapters[name]

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            self._adapters.pop(name, None)
            self._sources.pop(name, None)

    async def _prepare_all(self, paths: Mapping[str, str]) -> dict[str, Exception]:
        errors: dict[str, Exception] = {}
        for name, path in paths.items():
            try:
                await self._prepare(name, path)
            except HubError as error:
                errors[name] = error
        return errors

    async def _switch(self, fresh: list[str]) -> InvalidValue | None:
        """Begins a server with these, too; forgets them where that fails, and says why."""
        if not fresh:
            return None
        try:
            await self._servers.switch(dict(self._adapters), self.may_double)
        except EngineFailed as error:
            self._forget(fresh)
            return InvalidValue(f"The adapter {', '.join(fresh)} cannot be loaded: {error}")
        except EngineLost:
            self._forget(fresh)
            raise
        logger.info("adapters ready", model=self._name, adapters=fresh, pid=self.pid)
        return None

    def _path(self, name: str) -> Path:
        return self._folder / Path(name).expanduser()

    async def _prepare(self, name: str, path: str) -> None:
        """List the adapter's GGUF file under its name."""
        source = self._path(path)
        if self._sources.get(name, source) != source:
            raise InvalidValue(f"The adapter {name} is loaded from another path already.")
        base = self._path(self._model.file or "")
        tuned = source.is_relative_to(self._settings.folder / "tuned")
        # Beside its source where that is deleted as a whole.
        file = await prepare(source, base, source if tuned else self._settings.folder / "adapters")
        self._sources[name] = source
        self._adapters[name] = file


class Request:
    """One choice on one server."""

    def __init__(self, server: LlamaServer, generation: Generation, adapter: int | None) -> None:
        self._server = server
        self._generation = generation
        self._adapter = adapter

    async def run(self, sink: Sink) -> Usage:
        generation = self._generation
        shaped = self._shape()
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
            return Usage(await self._count_prompt(), spent)
        usage = await self._stream(shaped, resume, spent, sink)
        if not resume:
            return usage
        prompt = await self._count_prompt()
        return Usage(prompt, usage.completion + spent, min(usage.cached, prompt))

    async def _stream(self, shaped: shape.Shaped, resume: str, spent: int, sink: Sink) -> Usage:
        kind = self._generation.kind
        calls = CallReader() if shaped.forced else None
        if calls is not None:
            calls.skip(resume)
        subject = SUBJECTS[kind]
        reader = ChunkReader(
            sink, calls=calls, logprobs=shaped.logprobs, subject=subject, spent=spent
        )
        body = msgspec.json.encode(shaped.body)
        try:
            await self._server.upstream.stream(PATHS[kind], body, reader.take, sink.attach)
        except Refused as refused:
            raise from_status(refused.status, refused.body, subject, shaped.schema_param) from None
        return reader.close()

    def _shape(self) -> shape.Shaped:
        generation = self._generation
        if generation.kind == "chat":
            shaped = shape.chat(
                generation.body, tools=self._server.tools, context=self._server.context
            )
        else:
            shaped = shape.completion(
                generation.body, len(generation.resume), context=self._server.context
            )
        # Who leaves in the middle pays for what was generated until then.
        shaped.body["timings_per_token"] = True
        if self._server.adapters:
            # All are named every time: without, a slot goes on with the last request's.
            shaped.body["lora"] = [
                {"id": at, "scale": float(at == self._adapter)}
                for at in range(len(self._server.adapters))
            ]
        if generation.kind == "completion" and isinstance(shaped.body["prompt"], list):
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

    async def _count_prompt(self) -> int:
        """Tokens of the prompt alone, as the engine counts them."""
        body = self._shape().body
        if self._generation.kind == "completion":
            prompt = body["prompt"]
            if isinstance(prompt, list):
                return len(prompt)
            return len(await self._tokenize(prompt, special=True))
        told = {name: value for name, value in body.items() if name in ("messages", "tools")}
        reply = await self._ask("/apply-template", told)
        rendered = msgspec.json.decode(reply, type=Prompt).prompt
        return len(await self._tokenize(rendered, special=True))
