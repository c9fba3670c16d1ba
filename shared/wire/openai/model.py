"""GET /v1/models."""

from __future__ import annotations

from typing import Literal

import msgspec


class ModelObject(msgspec.Struct, kw_only=True):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "aihub"
    root: str | msgspec.UnsetType = msgspec.UNSET
    """An adapter's base model."""
    parent: str | msgspec.UnsetType = msgspec.UNSET
    """An adapter's base model; both are absent for a base model."""


class ModelList(msgspec.Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[ModelObject]
