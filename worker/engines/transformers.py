"""The engine of Hugging Face weights that no other can load: transformers in a child of ours."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

import msgspec

from shared.errors import (
    EngineFailed,
    HubError,
    InvalidValue,
    ModelUnavailable,
    UnsupportedParameter,
    UnsupportedValue,
)
from shared.settings import Model, Settings
from shared.wire.event import Usage, Vectors
from worker.engines import refusal as refusals
from worker.engines.base import Generation, Reservation, Sink
from worker.engines.chunks import ChunkReader
from worker.engines.exchange import Refused
from worker.engines.refusal import clean, too_long
from worker.engines.toolcalls import CallReader
from worker.engines.torch_engine import SUBJECTS, TorchEngine
from worker.engines.transformers_server import TransformersServer
from worker.engines.transformers_shape import Shaped, shaped
from worker.engines.vllm_refusal import complaint, refusal

NOT_LOADED = b'"adapter_not_loaded"'


class Rows(msgspec.Struct):
    rows: int
    width: int
    tokens: int
    data: str
    """Base64 of 32-bit floats, row by row."""


class Transformers(TorchEngine):
    """A base.Engine.

    A resumed answer goes on at its own place, under a schema too. Its text counts as many tokens
    as the tokenizer makes of it.
    """

    title = "transformers"
    to_sleep, to_wake = "/sleep", "/wake"

    def __init__(
        self, name: str, model: Model, settings: Settings, reservation: Reservation | None
    ) -> None:
        server = TransformersServer(name, model, settings, reservation)
        super().__init__(server, model, settings, reservation, can_adapt=model.kind == "chat")

    async def _load(self, name: str, folder: Path) -> None:
        try:
            await self._post("/adapters/load", {"name": name, "path": str(folder)})
        except Refused as error:
            raise InvalidValue(clean(complaint(error.body).message), param="adapter") from error

    async def _unload(self, name: str) -> None:
        try:
            await self._post("/adapters/unload", {"name": name})
        except Refused as error:
            raise EngineFailed(f"The adapter {name!r} could not be unloaded.") from error

    async def generate(self, generation: Generation, sink: Sink) -> Usage:
        if self._model.kind != "chat":
            raise UnsupportedValue("This model makes embeddings only.", param="model")
        if generation.adapter is not None and generation.adapter not in self._adapters:
            raise not_loaded(generation.adapter)
        request = shaped(generation, self._model.context)
        if request.echo and not generation.resume:
            sink.text(request.echo)
        calls = CallReader() if request.forced else None
        if calls is not None:
            calls.skip(generation.resume)
        reader = ChunkReader(
            sink,
            calls=calls,
            logprobs=request.logprobs,
            subject=SUBJECTS[generation.kind],
            schema_param=request.schema_param,
        )
        body = msgspec.json.encode(request.body)
        try:
            await self._server.upstream.stream("/generate", body, reader.take, sink.attach)
        except Refused as error:
            raise self._explain(error, generation, request) from None
        return reader.close()

    async def embed(self, inputs: list[str] | list[list[int]], dimensions: int | None) -> Vectors:
        if self._model.kind != "embedding":
            raise UnsupportedValue("This model makes no embeddings.", param="model")
        try:
            told = msgspec.json.decode(await self._post("/embed", {"input": inputs}), type=Rows)
        except Refused as error:
            raise input_refusal(error) from None
        if dimensions not in (None, told.width):
            raise UnsupportedParameter(
                f"This model's vectors have {told.width} dimensions and cannot be shortened.",
                param="dimensions",
            )
        return Vectors(told.rows, told.width, b64decode(told.data), Usage(told.tokens))

    def _explain(self, error: Refused, generation: Generation, request: Shaped) -> HubError:
        if NOT_LOADED in error.body and generation.adapter is not None:
            return not_loaded(generation.adapter)
        subject = SUBJECTS[generation.kind]
        return refusal(error.status, error.body, subject, request.schema_param)


def input_refusal(error: Refused) -> HubError:
    """Names the input that is wrong."""
    where = complaint(error.body).param or "input"
    said = refusals.complaint(error.body)
    if said.n_ctx is not None and said.n_prompt_tokens is not None:
        return too_long(said.n_ctx, said.n_prompt_tokens, "input", where)
    return refusal(error.status, error.body, "input", "response_format")


def not_loaded(adapter: str) -> ModelUnavailable:
    return ModelUnavailable(f"The adapter {adapter!r} is not loaded.", param="model")
