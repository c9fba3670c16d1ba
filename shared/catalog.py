"""The models the hub serves, by name and alias; adapters and servers' models come and go.

Pure: built from the settings; whoever learns of an adapter that the settings do not list tells it
to `adapt` and `forget`, and what a server offers by itself to `learn`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from msgspec.structs import replace

from shared.errors import ModelNotFound, ModelUnavailable
from shared.offers import LATEST, MOST, NAME, expand, spell, table_of
from shared.settings import PREFIX, Model, SettingsError, check_names
from shared.settings_check import ANY
from shared.wire.node import Offered
from shared.wire.task import Adapter

MOST_ADAPTERS = 10_000
"""Of all models together."""


class Canary(NamedTuple):
    """Another version that answers a share of those who ask, 0 to 1."""

    adapter: Adapter
    share: float


class Entry(NamedTuple):
    """A model callers can name. An adapter is one of its own: `model` is then its base's."""

    name: str
    model: Model
    base: str
    """The model whose engine answers and in whose queue requests wait; `name` itself, or, for an
    adapter, the model it was made for."""
    adapter: Adapter | None = None
    """The version of the adapter that answers who asks now."""
    owner: str | None = None
    """The project whose keys may use it; None: everybody's."""
    canary: Canary | None = None
    server: str = ""
    """The table that stands for it, where a server offers it by itself."""
    digest: str = ""
    """Of a server's model: changes with its weights."""
    shared: frozenset[str] = frozenset()
    """Other projects whose keys may use it, too."""

    def drawn(self, number: float) -> Entry:
        """The entry that answers one request, which has drawn a `number` from 0 to below 1."""
        if self.canary is None:
            return self
        adapter = self.canary.adapter if number < self.canary.share else self.adapter
        return self._replace(adapter=adapter, canary=None)


class Catalog:
    """Look-up of models; raises SettingsError when two models claim one name."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        check_names(models)
        self.servers = {name: model for name, model in models.items() if ANY in name}
        """The tables that stand for all models of a server."""
        self._offered: dict[str, tuple[Offered, ...]] = {}
        self._entries = {
            name: Entry(name, model, name)
            for name, model in models.items()
            if name not in self.servers
        }
        self._names = dict(self._entries)
        self._adapters: dict[str, Entry] = {}
        for entry in self._entries.values():
            for alias in entry.model.aliases:
                self._names[alias] = entry
        for entry in self._entries.values():
            for name, path in entry.model.adapters.items():
                self.adapt(entry.name, name, path)
        self._listed = frozenset(self._adapters)
        for name, model in models.items():
            self._check_fallbacks(name, model)

    def __iter__(self) -> Iterator[Entry]:
        """The base models: those that have an engine of their own."""
        return iter(list(self._entries.values()))

    def __contains__(self, name: str) -> bool:
        """Whether it is the name or the alias of a model, or the name of an adapter."""
        return name in self._names

    def named(self) -> Iterator[Entry]:
        """Every model callers can name: the base models, then the adapters."""
        return chain(list(self._entries.values()), list(self._adapters.values()))

    def find(self, name: str) -> Entry:
        """The model behind a name or alias; raises ModelNotFound.

        ModelUnavailable: a server may have it that has not told yet what it has.
        """
        try:
            return self._names[name]
        except KeyError:
            raise self.unknown(name) from None

    def unknown(self, name: str) -> ModelNotFound | ModelUnavailable:
        """What is said of a name that nobody has."""
        known = "GET /v1/models lists those that do."
        server = table_of(name, self.servers)
        if server is not None and server not in self._offered:
            return ModelUnavailable(
                f"What the server of the models {server!r} has is not known yet.",
                param="model",
                retry_after=5,
            )
        if server is not None:
            known = f"The server of {server!r} has none of that name now. {known}"
        return ModelNotFound(f"The model {name!r} does not exist. {known}", param="model")

    def may_find(self, name: str) -> bool:
        """Whether it is the name of a model, or could be of one that a server offers later."""
        return (
            name in self._names or name in self.servers or table_of(name, self.servers) is not None
        )

    def learn(self, server: str, offered: Sequence[Offered]) -> None:
        """Offer just these models of a server, and no others of it any more.

        Left out are names that cannot be or are taken, and what is beyond MOST. Others of the
        same table keep their place, so that one more does not push out another.
        """
        if self._offered.get(server) == (told := tuple(offered)):
            return
        self._offered[server] = told
        before = {e.name: e for e in self._entries.values() if e.server == server}
        wanted = {spell(server, one.name): one for one in told if NAME.fullmatch(one.name)}
        free = [name for name in wanted if self._is_free(name, server)]
        kept = sorted(free, key=lambda name: (name not in before, name))[:MOST]
        for entry in before.values():
            self._remove(entry)
        # Those with an alias come last: it takes no name that is a model's own.
        for name in sorted(kept, key=lambda name: wanted[name].name.endswith(LATEST)):
            self._add(server, name, wanted[name])

    def _is_free(self, name: str, server: str) -> bool:
        known = self._names.get(name)
        return table_of(name, self.servers) == server and (known is None or known.server == server)

    def _add(self, server: str, name: str, offered: Offered) -> None:
        model = expand(server, self.servers[server], offered)
        aliases = tuple(
            a for a in model.aliases if a not in self._names and self._is_free(a, server)
        )
        model = replace(model, aliases=aliases)
        entry = Entry(name, model, name, server=server, digest=offered.digest)
        self._entries[name] = entry
        self._names |= dict.fromkeys((name, *aliases), entry)

    def _remove(self, entry: Entry) -> None:
        del self._entries[entry.name]
        for name in (entry.name, *entry.model.aliases):
            del self._names[name]

    def _check_fallbacks(self, name: str, model: Model) -> None:
        for fallback in model.fallbacks:
            if not self.may_find(fallback) or fallback in self.servers:
                raise SettingsError(f"models.{name}.fallbacks: no model {fallback!r}")
            known = self._names.get(fallback)
            if known is not None and name not in self.servers and known.model.kind != model.kind:
                raise SettingsError(f"models.{name}.fallbacks: {fallback!r} is of another kind")

    def adapt(
        self,
        base: str,
        name: str,
        path: str,
        version: int = 1,
        owner: str | None = None,
        shared: frozenset[str] = frozenset(),
    ) -> Entry:
        """Offer an adapter on `base` as `name`, or another version of one that is offered.

        Who asked before keeps the version of then. Raises ValueError for a name that is taken or
        a model that takes no adapters.
        """
        return self._offer(base, name, Adapter(versioned(name, version), path), owner, shared)

    def point(self, name: str, target: str, canary: str | None = None, share: float = 0) -> Entry:
        """Offer an adapter that is offered as `name`, too, with `canary` for a share of those who
        ask; both have one base and one owner. Raises ValueError.
        """
        one = self._adapters.get(target)
        other = None if canary is None else self._adapters.get(canary)
        if one is None or one.adapter is None or (canary is not None and other is None):
            raise ValueError(f"{target!r} or {canary!r} is no adapter that is offered")
        entry = self._offer(one.base, name, one.adapter, one.owner)
        if other is not None and other.adapter is not None:
            if (other.base, other.owner) != (one.base, one.owner):
                raise ValueError(f"{target!r} and {canary!r} have not one base and one owner")
            entry = entry._replace(canary=Canary(other.adapter, share))
            self._adapters[name] = self._names[name] = entry
        return entry

    def _offer(
        self,
        base: str,
        name: str,
        adapter: Adapter,
        owner: str | None,
        shared: frozenset[str] = frozenset(),
    ) -> Entry:
        entry = self._entries.get(base)
        if entry is None or entry.model.kind != "chat":
            raise ValueError(f"{base!r} is no model that an adapter could be made for")
        known = self._adapters.get(name)
        if not name.strip() or (name in self._names and (known is None or known.base != base)):
            raise ValueError(f"the name {name!r} is empty or taken")
        if known is None and len(self._adapters) >= MOST_ADAPTERS:
            raise ValueError(f"there are {MOST_ADAPTERS} adapters already")
        adapted = Entry(name, entry.model, base, adapter, owner, shared=shared)
        self._adapters[name] = self._names[name] = adapted
        return adapted

    def forget(self, name: str) -> None:
        """Offer an adapter no longer; idempotent. Raises ValueError for one of the settings."""
        if name in self._listed:
            raise ValueError(f"the adapter {name!r} is in the settings")
        if self._adapters.pop(name, None) is not None:
            del self._names[name]

    def lanes(self) -> set[str]:
        """Those that need a worker."""
        models = [entry.model for entry in self._entries.values()]
        return {model.lane for model in (*models, *self.servers.values())}

    def lane(self, lane: str) -> list[Entry]:
        """The base models one worker serves."""
        return [entry for entry in self._entries.values() if entry.model.lane == lane]

    def served(self, lane: str) -> list[Entry]:
        """The models of a worker about to start; raises SettingsError when nothing is its own."""
        found = self.lane(lane)
        if lane not in self.lanes():
            lanes = ", ".join(sorted(self.lanes()))
            raise SettingsError(
                f"lane, or {PREFIX}LANE: no model is in lane {lane!r}."
                f" Lanes of the models: {lanes}."
            )
        return found


def versioned(name: str, version: int = 1) -> str:
    """What engines know one version of an adapter by."""
    return f"{name}@{version}"
