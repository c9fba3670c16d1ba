"""GET /v1/models."""

from __future__ import annotations

from typing import Literal

import msgspec

from shared.wire.node import ModelState

Standing = ModelState | Literal["unserved"]
"""unserved: no worker runs that could load it."""


class Extension(msgspec.Struct, kw_only=True):
    """What OpenAI's shape has no place for."""

    state: Standing
    """Where it stands best; one that is absent or asleep is brought when somebody asks for it."""
    devices: list[str]
    """Those that hold it now."""
    engine: str
    kind: Literal["chat", "embedding"]
    context: int
    """Tokens of one request, prompt and answer together."""
    aliases: tuple[str, ...]
    capabilities: tuple[str, ...]


class ModelObject(msgspec.Struct, kw_only=True):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "aihub"
    root: str | msgspec.UnsetType = msgspec.UNSET
    """An adapter's base model."""
    parent: str | msgspec.UnsetType = msgspec.UNSET
    """An adapter's base model; both are absent for a base model."""
    aihub: Extension


class ModelList(msgspec.Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[ModelObject]
