"""The models the hub serves, by name and alias, and the adapters on them, which come and go.

Pure: built from the settings; whoever learns of an adapter that the settings do not list tells it
to `adapt` and `forget`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from shared.errors import ModelNotFound
from shared.settings import PREFIX, Model, SettingsError, check_names
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
        self._entries = {name: Entry(name, model, name) for name, model in models.items()}
        self._names = dict(self._entries)
        self._adapters: dict[str, Entry] = {}
        for entry in self._entries.values():
            for alias in entry.model.aliases:
                self._names[alias] = entry
        for entry in self._entries.values():
            for name, path in entry.model.adapters.items():
                self.adapt(entry.name, name, path)
        self._listed = frozenset(self._adapters)
        for entry in self._entries.values():
            for fallback in entry.model.fallbacks:
                if fallback not in self._names:
                    raise SettingsError(f"models.{entry.name}.fallbacks: no model {fallback!r}")
                if self._names[fallback].model.kind != entry.model.kind:
                    raise SettingsError(
                        f"models.{entry.name}.fallbacks: {fallback!r} is of another kind"
                    )

    def __iter__(self) -> Iterator[Entry]:
        """The base models: those that have an engine of their own."""
        return iter(self._entries.values())

    def __contains__(self, name: str) -> bool:
        """Whether it is the name or the alias of a model, or the name of an adapter."""
        return name in self._names

    def named(self) -> Iterator[Entry]:
        """Every model callers can name: the base models, then the adapters."""
        return chain(list(self._entries.values()), list(self._adapters.values()))

    def find(self, name: str) -> Entry:
        """The model behind a name or alias; raises ModelNotFound."""
        try:
            return self._names[name]
        except KeyError:
            raise self.unknown(name) from None

    def unknown(self, name: str) -> ModelNotFound:
        """What is said of a name that nobody has."""
        return ModelNotFound(
            f"The model {name!r} does not exist. GET /v1/models lists those that do.",
            param="model",
        )

    def adapt(
        self, base: str, name: str, path: str, version: int = 1, owner: str | None = None
    ) -> Entry:
        """Offer an adapter on `base` as `name`, or another version of one that is offered.

        Who asked before keeps the version of then. Raises ValueError for a name that is taken or
        a model that takes no adapters.
        """
        return self._offer(base, name, Adapter(versioned(name, version), path), owner)

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

    def _offer(self, base: str, name: str, adapter: Adapter, owner: str | None) -> Entry:
        entry = self._entries.get(base)
        if entry is None or entry.model.kind != "chat":
            raise ValueError(f"{base!r} is no model that an adapter could be made for")
        known = self._adapters.get(name)
        if not name.strip() or (name in self._names and (known is None or known.base != base)):
            raise ValueError(f"the name {name!r} is empty or taken")
        if known is None and len(self._adapters) >= MOST_ADAPTERS:
            raise ValueError(f"there are {MOST_ADAPTERS} adapters already")
        adapted = Entry(name, entry.model, base, adapter, owner)
        self._adapters[name] = self._names[name] = adapted
        return adapted

    def forget(self, name: str) -> None:
        """Offer an adapter no longer; idempotent. Raises ValueError for one of the settings."""
        if name in self._listed:
            raise ValueError(f"the adapter {name!r} is in the settings")
        if self._adapters.pop(name, None) is not None:
            del self._names[name]

    def lane(self, lane: str) -> list[Entry]:
        """The base models one worker serves."""
        return [entry for entry in self._entries.values() if entry.model.lane == lane]

    def served(self, lane: str) -> list[Entry]:
        """The models of a worker about to start; raises SettingsError when there are none."""
        found = self.lane(lane)
        if not found:
            lanes = ", ".join(sorted({entry.model.lane for entry in self._entries.values()}))
            raise SettingsError(
                f"lane, or {PREFIX}LANE: no model is in lane {lane!r}."
                f" Lanes of the models: {lanes}."
            )
        return found


def versioned(name: str, version: int = 1) -> str:
    """What engines know one version of an adapter by."""
    return f"{name}@{version}"
