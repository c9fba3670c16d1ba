"""The engine of Hugging Face weights on GPUs: vLLM in processes of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from shared.errors import EngineFailed, HubError, ModelUnavailable, UnsupportedValue
from shared.settings import Model, Settings
from shared.vllm import adapter_rank
from shared.wire.event import Usage, Vectors
from worker.engines.base import EngineLost, Generation, Reservation, Sink
from worker.engines.chunks import ChunkReader
from worker.engines.exchange import Refused
from worker.engines.refusal import Subject, clean, too_long
from worker.engines.replay import Prefix, ReplaySink, calls_behind
from worker.engines.toolcalls import CallReader
from worker.engines.torch_engine import SUBJECTS, TorchEngine
from worker.engines.vllm_adapter import make_empty, refused
from worker.engines.vllm_arguments import weights
from worker.engines.vllm_refusal import complaint, limit_of, refusal
from worker.engines.vllm_server import VllmServer
from worker.engines.vllm_shape import Shaped, go_on_behind, shaped

PATHS = {"chat": "/v1/chat/completions", "completion": "/v1/completions"}
TEMPLATED = ("prompt", "messages", "tools", "chat_template_kwargs")
NOT_FOUND = 404
PLAIN = "@plain"
SERVER_FAULT = 500


class Tokens(msgspec.Struct):
    count: int
    tokens: list[int]


class Vllm(TorchEngine):
    """A base.Engine.

    Usage after a resumed attempt counts as LlamaCpp's does. An answer that a schema holds cannot
    be resumed by vLLM: it is generated again, and given from where the earlier attempt ended.
    """

    title = "vLLM"
    to_sleep, to_wake = "/sleep?level=1&mode=abort", "/wake_up"

    def __init__(
        self, name: str, model: Model, settings: Settings, reservation: Reservation | None
    ) -> None:
        rank = adapter_rank(model)
        self._vllm = VllmServer(name, model, settings, reservation)
        super().__init__(
            self._vllm, model, settings, reservation, can_adapt=rank is not None, rank=rank
        )
        self._name = name
        on_cpu = reservation is not None and not reservation.device
        self._plain = f"{name}{PLAIN}" if on_cpu and self.can_adapt else name
        """What the server knows the model by without adapters; see shared.vllm.lora_slots."""

    async def start(self) -> None:
        if self._server.running:
            return
        await super().start()
        if self._plain != self._name:
            await self._load_plain()

    async def _load(self, name: str, folder: Path) -> None:
        told = {"lora_name": name, "lora_path": str(folder)}
        try:
            await self._post("/v1/load_lora_adapter", told)
        except Refused as error:
            if error.status >= SERVER_FAULT and await self._vllm.lost():
                raise EngineLost("the engine died of an adapter") from error
            why = clean(complaint(error.body).message) or f"the engine answers {error.status}"
            raise refused(name, why) from error

    async def _unload(self, name: str) -> None:
        try:
            await self._post("/v1/unload_lora_adapter", {"lora_name": name})
        except Refused as error:
            if error.status != NOT_FOUND:
                raise EngineFailed(f"The adapter {name!r} could not be unloaded.") from error

    async def _load_plain(self) -> None:
        folder = self._vllm.folder / "plain"
        await asyncio.to_thread(make_empty, folder, Path(weights(self._model, self._models)))
        told = {"lora_name": self._plain, "lora_path": str(folder)}
        try:
            await self._post("/v1/load_lora_adapter", told)
        except (Refused, EngineLost) as error:
            await self.stop()
            raise EngineFailed(f"The engine of {self._name} took no adapter: {error}") from error

    async def embed(self, inputs: list[str] | list[list[int]], dimensions: int | None) -> Vectors:
        raise UnsupportedValue("This model makes no embeddings.", param="model")

    async def generate(self, generation: Generation, sink: Sink) -> Usage:
        request = self._shape(generation)
        if request.echo and not generation.resume:
            sink.text(request.echo)
        given = generation.resume[len(request.echo) :]
        if request.body.get("max_tokens", 1) <= 0:
            sink.finish("length")
            return Usage(await self._count(request.body))
        if not given or request.constrained:
            return await self._stream(generation.kind, request, given, sink)
        ids = await self._tokenize({"prompt": given, "add_special_tokens": False})
        prompt = await self._count(request.body)
        go_on_behind(request.body, given, ids.tokens)
        if request.body.get("max_tokens", 1) <= 0:
            sink.finish("length")
            return Usage(prompt, ids.count)
        usage = await self._stream(generation.kind, request, "", sink, ids.count)
        return Usage(prompt, usage.completion + ids.count, min(usage.cached, prompt))

    def _shape(self, generation: Generation) -> Shaped:
        name = generation.adapter or self._plain
        if generation.adapter is not None and generation.adapter not in self._adapters:
            raise ModelUnavailable(f"The adapter {name!r} is not loaded.", param="model")
        tools = self._model.tool_parser is not None
        return shaped(generation, name, self._model.context, tools=tools)

    async def _stream(
        self, kind: str, request: Shaped, given: str, sink: Sink, spent: int = 0
    ) -> Usage:
        """Generate; `given` was generated before and is not given again."""
        subject = SUBJECTS[kind]
        calls: CallReader | None = calls_behind(given) if request.forced else None
        if given and calls is None:
            sink = ReplaySink(sink, Prefix(given))
        reader = ChunkReader(
            sink,
            calls=calls,
            logprobs=request.logprobs,
            subject=subject,
            schema_param=request.schema_param,
            spent=spent,
        )
        body = msgspec.json.encode(request.body)
        try:
            await self._server.upstream.stream(PATHS[kind], body, reader.take, sink.attach)
        except Refused as error:
            raise await self._explain(error, request, subject) from None
        except EngineFailed:
            if await self._vllm.lost():
                raise EngineLost("the engine died in the middle of a request") from None
            raise
        return reader.close()

    async def _explain(self, error: Refused, request: Shaped, subject: Subject) -> Exception:
        if error.status >= SERVER_FAULT and await self._vllm.lost():
            return EngineLost("the engine died")
        limit = limit_of(error.body)
        if limit is None:
            return refusal(error.status, error.body, subject, request.schema_param)
        return too_long(limit, await self._count(request.body), subject)

    async def _count(self, body: dict[str, Any]) -> int:
        """Tokens of the prompt alone, as the engine counts them."""
        if isinstance(body.get("prompt"), list):
            return len(body["prompt"])
        told = {name: body[name] for name in TEMPLATED if name in body}
        return (await self._tokenize(told)).count

    async def _tokenize(self, told: dict[str, Any]) -> Tokens:
        try:
            return msgspec.json.decode(await self._post("/tokenize", told), type=Tokens)
        except Refused as error:
            failed: HubError = refusal(error.status, error.body, "prompt", "response_format")
            raise failed from None
