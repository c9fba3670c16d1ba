"""Embeddings from a llama.cpp server."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from shared.errors import EngineFailed, HubError, InvalidValue, UnsupportedParameter
from shared.settings import Model
from shared.wire.event import Usage, Vectors
from worker.engines.cl100k import FILE_NAME, RANKS, Cl100k
from worker.engines.exchange import Refused
from worker.engines.llamacpp_server import LlamaServer
from worker.engines.refusal import check_ids, from_status, too_long

BATCH = 64
"""Inputs in one request to the engine."""


class Row(msgspec.Struct):
    index: int
    embedding: str


class Counts(msgspec.Struct):
    prompt_tokens: int = 0


class Reply(msgspec.Struct):
    data: list[Row]
    usage: Counts = msgspec.field(default_factory=Counts)


class Tokens(msgspec.Struct):
    tokens: list[int]


class Embedder:
    """Turns texts and token ids into unit vectors of the model's width."""

    def __init__(self, model: Model, current: Callable[[], LlamaServer], folder: Path) -> None:
        self._model = model
        self._current = current
        self._ranks = folder / FILE_NAME if model.token_input == "cl100k" else None
        self._foreign = Cl100k(self._ranks) if self._ranks is not None else None

    @property
    def _server(self) -> LlamaServer:
        return self._current()

    def check_files(self) -> None:
        """Raises EngineFailed when the vocabulary for foreign token ids is missing."""
        if self._ranks is not None and not self._ranks.is_file():
            raise EngineFailed(f"token_input is cl100k, but the file {FILE_NAME} is missing.")

    async def embed(self, inputs: list[str] | list[list[int]], dimensions: int | None) -> Vectors:
        """Raises UnsupportedParameter, InvalidValue and ContextLengthExceeded, naming the input."""
        width = self._server.sizes.n_embd
        if self._server.alive and dimensions not in (None, width):
            raise UnsupportedParameter(
                f"This model's vectors have {width} dimensions and cannot be shortened.",
                param="dimensions",
            )
        items: Sequence[str | list[int]] = inputs
        texts = [self._readable(item, at) for at, item in enumerate(items)]
        rows: list[bytes] = []
        tokens = 0
        for start in range(0, len(texts), BATCH):
            reply = await self._request(texts[start : start + BATCH], start)
            rows += [b64decode(row.embedding) for row in sorted(reply.data, key=lambda r: r.index)]
            tokens += reply.usage.prompt_tokens
        return Vectors(len(rows), len(rows[0]) // 4 if rows else 0, b"".join(rows), Usage(tokens))

    def _readable(self, item: str | list[int], at: int) -> str | list[int]:
        if isinstance(item, str):
            return item
        if self._foreign is None:
            check_ids(item, self._server.sizes.n_vocab, f"input[{at}]")
            return item
        try:
            return self._foreign.decode(item)
        except IndexError:
            raise InvalidValue(
                f"A token id is out of range; cl100k_base has 0 to {RANKS - 1}.",
                param=f"input[{at}]",
            ) from None

    async def _request(self, batch: list[str | list[int]], start: int) -> Reply:
        body = msgspec.json.encode({"input": batch, "encoding_format": "base64"})
        try:
            reply = await self._server.upstream.call("POST", "/v1/embeddings", body)
        except Refused as refused:
            raise await self._explain(refused, batch, start) from None
        return msgspec.json.decode(reply, type=Reply)

    async def _explain(
        self, refused: Refused, batch: list[str | list[int]], start: int
    ) -> HubError:
        """Name the first input that is too long, else what the engine said."""
        for at, item in enumerate(batch, start):
            count = len(item)
            if isinstance(item, str):
                body = msgspec.json.encode({"content": item, "add_special": True})
                try:
                    reply = await self._server.upstream.call("POST", "/tokenize", body)
                except Refused as again:
                    return from_status(again.status, again.body, "input")
                count = len(msgspec.json.decode(reply, type=Tokens).tokens)
            if count > self._model.context:
                return too_long(self._model.context, count, "input", f"input[{at}]")
        return from_status(refused.status, refused.body, "input")
