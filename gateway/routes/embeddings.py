"""POST /v1/embeddings."""

from __future__ import annotations

import msgspec

from gateway import worst
from gateway.ask import Ask, Form
from gateway.exchange import Exchange
from gateway.routes.admission import service_class
from gateway.routes.generation import Generation
from shared.wire.event import Answer, Vectors
from shared.wire.openai import embedding

encode = msgspec.json.Encoder().encode


class EmbeddingRoute:
    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    async def __call__(self, exchange: Exchange) -> None:
        generation = self._generation
        body = await exchange.read(generation.settings.max_body)
        request = embedding.decode(body)
        entry = generation.admission.admit(exchange, request.model, "embedding")
        fingerprint = generation.admission.fingerprint(entry)
        most = worst.of_embedding(request, entry.model, len(body))
        ask = Ask("embedding", entry, body, service_class(exchange, None), fingerprint, most)
        form = EmbeddingForm(entry.name, request.encoding_format)
        await generation.answer(exchange, ask, form)


class EmbeddingForm(Form):
    def __init__(self, model: str, encoding: str | None) -> None:
        self._model = model
        self._encoding = encoding

    def whole(self, answer: Answer | Vectors, created: int) -> bytes:
        assert isinstance(answer, Vectors)
        return encode(embedding.from_vectors(answer, self._model, self._encoding))
