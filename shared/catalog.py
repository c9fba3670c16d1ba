"""The models the hub serves, by name and alias. Pure: built from the settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from shared.errors import ModelNotFound
from shared.settings import PREFIX, Model, SettingsError, check_names


class Entry(NamedTuple):
    """A model callers can name. An adapter is one of its own: `model` is then its base's."""

    name: str
    model: Model
    base: str
    """The model whose engine answers and in whose queue requests wait; `name` itself, or, for an
    adapter, the model it was made for."""
    adapter: str | None = None
    """What the engine knows the adapter by."""


class Catalog:
    """Look-up of models; raises SettingsError when two models claim one name."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        check_names(models)
        self._entries = {name: Entry(name, model, name) for name, model in models.items()}
        self._names = dict(self._entries)
        for entry in self._entries.values():
            for alias in entry.model.aliases:
                self._names[alias] = entry
        for entry in self._entries.values():
            for fallback in entry.model.fallbacks:
                if fallback not in self._names:
                    raise SettingsError(f"models.{entry.name}.fallbacks: no model {fallback!r}")
                if self._names[fallback].model.kind != entry.model.kind:
                    raise SettingsError(
                        f"models.{entry.name}.fallbacks: {fallback!r} is of another kind"
                    )

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __contains__(self, name: str) -> bool:
        """Whether it is the name or the alias of a model."""
        return name in self._names

    def find(self, name: str) -> Entry:
        """The model behind a name or alias; raises ModelNotFound."""
        try:
            return self._names[name]
        except KeyError:
            raise ModelNotFound(
                f"The model {name!r} does not exist. GET /v1/models lists those that do.",
                param="model",
            ) from None

    def lane(self, lane: str) -> list[Entry]:
        """The models one worker serves."""
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
