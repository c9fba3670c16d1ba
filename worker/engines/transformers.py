"""The engine of Hugging Face weights that no other can load: transformers in a child of ours."""

from __future__ import annotations

import asyncio
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
from shared.wire.node import LoadProgress
from worker.engines import refusal as refusals
from worker.engines.base import Generation, Reservation, Sink
from worker.engines.chunks import ChunkReader
from worker.engines.refusal import Subject, clean, too_long
from worker.engines.toolcalls import CallReader
from worker.engines.transformers_server import TransformersServer
from worker.engines.transformers_shape import Shaped, shaped
from worker.engines.upstream import Refused
from worker.engines.vllm_adapter import check_adapter, refused
from worker.engines.vllm_refusal import complaint, refusal

NOT_LOADED = b'"adapter_not_loaded"'
SUBJECTS: dict[str, Subject] = {"chat": "messages", "completion": "prompt"}


class Rows(msgspec.Struct):
    rows: int
    width: int
    tokens: int
    data: str
    """Base64 of 32-bit floats, row by row."""


class Transformers:
    """A base.Engine.

    A resumed answer goes on at its own place, under a schema too. Its text counts as many tokens
    as the tokenizer makes of it.
    """

    def __init__(
        self, name: str, model: Model, settings: Settings, reservation: Reservation | None
    ) -> None:
        self.can_sleep = reservation is not None and bool(reservation.device)
        self.can_adapt = model.kind == "chat"
        self._model = model
        self._models = settings.folder / "models"
        self._server = TransformersServer(name, model, settings, reservation)
        self._adapters: dict[str, Path] = {}
        """What the running child has loaded; the caller bounds it by unloading."""
        self._adapting = asyncio.Lock()

    @property
    def alive(self) -> bool:
        return self._server.running and not self._server.asleep

    def pids(self) -> list[int]:
        return self._server.pids()

    def progress(self) -> LoadProgress | None:
        return self._server.progress()

    def grant(self, bytes: int) -> None:
        self._server.grant(bytes)

    async def start(self) -> None:
        if not self._server.running:
            self._adapters.clear()
        await self._server.start()

    async def stop(self) -> None:
        self._adapters.clear()
        await self._server.stop()

    async def ended(self) -> None:
        await self._server.ended()

    async def sleep(self) -> None:
        if not self.can_sleep:
            raise UnsupportedValue("transformers cannot sleep on a CPU.", param="model")
        if not self._server.asleep:
            await self._server.turn("/sleep", asleep=True)

    async def wake(self) -> None:
        if not self.can_sleep:
            raise UnsupportedValue("transformers cannot sleep on a CPU.", param="model")
        if self._server.asleep:
            await self._server.turn("/wake", asleep=False)

    async def load_adapter(self, name: str, path: str) -> None:
        if not self.can_adapt:
            raise UnsupportedValue("An embedding model takes no adapters.", param="model")
        folder = self._models / path
        async with self._adapting:
            loaded = self._adapters.get(name)
            if loaded is not None and loaded != folder:
                raise refused(name, "another version has this name")
            if loaded is not None:
                return
            await asyncio.to_thread(check_adapter, name, folder, None, "transformers")
            try:
                await self._post("/adapters/load", {"name": name, "path": str(folder)})
            except Refused as error:
                raise InvalidValue(clean(complaint(error.body).message), param="adapter") from error
            self._adapters[name] = folder

    async def unload_adapter(self, name: str) -> None:
        async with self._adapting:
            if name not in self._adapters:
                return
            try:
                await self._post("/adapters/unload", {"name": name})
            except Refused as error:
                raise EngineFailed(f"The adapter {name!r} could not be unloaded.") from error
            del self._adapters[name]

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

    async def _post(self, path: str, told: object) -> bytes:
        return await self._server.upstream.call("POST", path, msgspec.json.encode(told))


def input_refusal(error: Refused) -> HubError:
    """Names the input that is wrong."""
    where = complaint(error.body).param or "input"
    said = refusals.complaint(error.body)
    if said.n_ctx is not None and said.n_prompt_tokens is not None:
        return too_long(said.n_ctx, said.n_prompt_tokens, "input", where)
    return refusal(error.status, error.body, "input", "response_format")


def not_loaded(adapter: str) -> ModelUnavailable:
    return ModelUnavailable(f"The adapter {adapter!r} is not loaded.", param="model")
