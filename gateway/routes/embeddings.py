"""POST /v1/embeddings."""

from __future__ import annotations

import msgspec

from gateway import delivery
from gateway.counts import Counts
from gateway.dispatch import Dispatch
from gateway.exchange import JSON, Exchange
from gateway.routes.admission import Admission, service_class
from shared.settings import Settings
from shared.wire.event import Failed, Vectors
from shared.wire.openai import embedding

encode = msgspec.json.Encoder().encode


class EmbeddingRoute:
    def __init__(
        self, settings: Settings, admission: Admission, dispatch: Dispatch, counts: Counts
    ) -> None:
        self._settings = settings
        self._admission = admission
        self._dispatch = dispatch
        self._counts = counts

    async def __call__(self, exchange: Exchange) -> None:
        body = await exchange.read(self._settings.max_body)
        request = embedding.decode(body)
        entry = self._admission.admit(exchange, request.model, "embedding")
        reply = await self._dispatch.open(
            "embedding",
            entry,
            body,
            key=exchange.account.key,
            streamed=False,
            service=service_class(exchange, None),
        )
        try:
            limit = self._settings.request_timeout
            vectors = await delivery.whole(exchange, reply, Vectors, limit)
            if isinstance(vectors, Failed):
                await exchange.refuse(vectors)
                return
            self._counts.add_tokens(entry.name, vectors.usage)
            found = embedding.from_vectors(vectors, entry.name, request.encoding_format)
            await exchange.respond(200, encode(found), JSON)
        finally:
            reply.close()
