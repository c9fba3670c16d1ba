"""Which model a request means, whether it can do what is asked, and in which class it waits."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Literal

import msgspec

from gateway import routing, traits
from gateway.exchange import Exchange
from shared.catalog import Catalog, Entry
from shared.errors import InvalidRequest, InvalidValue, ModelNotAllowed
from shared.redact import redact
from shared.wire.account import Account
from shared.wire.openai import chat
from shared.wire.task import Class

CLASSES: dict[bytes, Class] = {
    b"interactive": "interactive",
    b"standard": "standard",
    b"batch": "batch",
}
MOST_FINGERPRINTS = 10_000
BATCH_TIERS = ("flex", "batch")
PATHS = {"chat": "/v1/chat/completions or /v1/completions", "embedding": "/v1/embeddings"}


class Admission:
    """`states` tells how each model stands with the live workers, by name; `learn` asks whether
    there is a model that the catalog does not have yet."""

    def __init__(
        self,
        catalog: Catalog,
        states: Callable[[], Mapping[str, str]],
        learn: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._catalog = catalog
        self._learn = learn
        self._states = states
        self._fingerprints: dict[str, tuple[Entry, str]] = {}
        """Of base models, as they were last asked for."""

    async def learn(self, name: str) -> None:
        """Before `admit`: a model may have been published a moment ago."""
        if self._learn is not None and name != routing.AUTO and name not in self._catalog:
            await self._learn(name)

    def admit(self, exchange: Exchange, name: str, kind: Literal["chat", "embedding"]) -> Entry:
        """The model of that name or alias; raises ModelNotFound, or InvalidRequest for its kind.

        ModelNotAllowed: the key may not use it.
        """
        entry = visible(self._catalog, exchange.account, name).drawn(random.random())
        exchange.model, exchange.use.entry = entry.name, entry
        if not permits(self._catalog, exchange.account, entry):
            raise ModelNotAllowed(f"This key may not use the model {name!r}.", param="model")
        if entry.model.kind != kind:
            article = "an embedding" if entry.model.kind == "embedding" else "a chat"
            raise InvalidRequest(
                f"{name!r} is {article} model; it answers at {PATHS[entry.model.kind]}."
                f" GET /v1/models lists the others.",
                param="model",
            )
        return entry

    def admit_chat(self, exchange: Exchange, request: chat.ChatRequest, size: int) -> Entry:
        """The model of a chat of `size` bytes; `auto` and fallbacks are told in a header."""
        if request.model != routing.AUTO:
            return self.answering(exchange, self.admit(exchange, request.model, "chat"))
        asked = exchange.headers.get(b"x-aihub-quality")
        among = exchange.headers.get(b"x-aihub-models", b"").decode("latin-1")
        route = routing.choose(
            traits.read(request, size),
            routing.quality(asked.decode("latin-1").strip() if asked is not None else None),
            self._catalog,
            self._states(),
            [name.strip() for name in among.split(",") if name.strip()],
            partial(permits, self._catalog, exchange.account),
        )
        return self._routed(exchange, route)

    def answering(self, exchange: Exchange, entry: Entry) -> Entry:
        """The model, or the fallback that stands in for it."""
        if not entry.model.fallbacks:
            return entry
        permitted = partial(permits, self._catalog, exchange.account)
        route = routing.stand_in(entry, self._catalog, self._states(), permitted)
        return entry if route is None else self._routed(exchange, route)

    def _routed(self, exchange: Exchange, route: routing.Route) -> Entry:
        exchange.model, exchange.use.entry = route.entry.name, route.entry
        exchange.extra.append((b"x-aihub-route", route.why.encode()))
        return route.entry

    def fingerprint(self, entry: Entry) -> str:
        """Changes when the model's settings do, with each version of an adapter, and with the
        weights of a server's model.
        """
        base = self._of_base(self._catalog.find(entry.base) if entry.adapter else entry)
        return base if entry.adapter is None else adapted(base, entry.adapter.name)

    def _of_base(self, entry: Entry) -> str:
        known = self._fingerprints.get(entry.name)
        if known is None or known[0] is not entry:
            if len(self._fingerprints) >= MOST_FINGERPRINTS:
                self._fingerprints.clear()
            known = self._fingerprints[entry.name] = entry, fingerprint(entry)
        return known[1]


def visible(catalog: Catalog, account: Account, name: str) -> Entry:
    """The model of that name; raises ModelNotFound, also for one of another project."""
    entry = catalog.find(name)
    if foreign(entry, account):
        raise catalog.unknown(name)
    return entry


def foreign(entry: Entry, account: Account) -> bool:
    """Whether it is another project's, which has not shared it."""
    return entry.owner not in (None, account.project) and account.project not in entry.shared


def permits(catalog: Catalog, account: Account, entry: Entry) -> bool:
    """Whether the account may use a model; its list holds names, aliases and servers' tables.

    An adapter is a model of its own: being allowed its base is not enough.
    """
    if foreign(entry, account):
        return False
    if not account.models or entry.name in account.models:
        return True
    if entry.server in account.models:
        return True
    return any(name in catalog and catalog.find(name).name == entry.name for name in account.models)


def fingerprint(entry: Entry) -> str:
    """Of a base model."""
    settings = redact("model", msgspec.to_builtins(entry.model))
    told = [entry.name, settings, entry.digest] if entry.digest else [entry.name, settings]
    digest = hashlib.sha256(msgspec.json.encode(told, order="sorted"))
    return f"fp_{digest.hexdigest()[:10]}"


def adapted(base: str, version: str) -> str:
    """The fingerprint of a version of an adapter, given its base's."""
    return f"fp_{hashlib.sha256(f'{base} {version}'.encode()).hexdigest()[:10]}"


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
