"""Which model a request means, whether it can do what is asked, and in which class it waits."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from gateway.exchange import Exchange
from shared.catalog import Catalog, Entry
from shared.errors import InvalidRequest, InvalidValue
from shared.redact import redact
from shared.wire.task import Class

CLASSES: dict[bytes, Class] = {
    b"interactive": "interactive",
    b"standard": "standard",
    b"batch": "batch",
}
BATCH_TIERS = ("flex", "batch")
PATHS = {"chat": "/v1/chat/completions or /v1/completions", "embedding": "/v1/embeddings"}


class Admission:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._fingerprints = {entry.name: fingerprint(entry) for entry in catalog}

    def admit(self, exchange: Exchange, name: str, kind: Literal["chat", "embedding"]) -> Entry:
        """The model of that name or alias; raises ModelNotFound, or InvalidRequest for its kind."""
        entry = self._catalog.find(name)
        exchange.model = entry.name
        if entry.model.kind != kind:
            article = "an embedding" if entry.model.kind == "embedding" else "a chat"
            raise InvalidRequest(
                f"{name!r} is {article} model; it answers at {PATHS[entry.model.kind]}."
                f" GET /v1/models lists the others.",
                param="model",
            )
        return entry

    def fingerprint(self, entry: Entry) -> str:
        """Changes when the model's settings do."""
        return self._fingerprints[entry.name]


def fingerprint(entry: Entry) -> str:
    settings = redact("model", msgspec.to_builtins(entry.model))
    digest = hashlib.sha256(msgspec.json.encode([entry.name, settings], order="sorted"))
    return f"fp_{digest.hexdigest()[:10]}"


def service_class(exchange: Exchange, tier: str | None) -> Class:
    """The header x-aihub-class decides, else service_tier flex or batch; raises InvalidValue."""
    given = exchange.headers.get(b"x-aihub-class")
    if given is None:
        return "batch" if tier in BATCH_TIERS else "interactive"
    try:
        return CLASSES[given.strip().lower()]
    except KeyError:
        allowed = ", ".join(name.decode() for name in CLASSES)
        raise InvalidValue(
            f"Invalid value for the header x-aihub-class. Allowed are {allowed}.",
            param="x-aihub-class",
        ) from None
