"""What a model's files say of its size: tensors, layers, widths."""

from __future__ import annotations

from typing import Literal

import msgspec

Source = Literal["gguf", "safetensors", "index", "config"]
"""Where the bytes of the weights come from: headers tensor by tensor, the total that an index
states, or the shapes of a known architecture."""


class WeightsError(Exception):
    """The files do not say how large the model is; the message names the file and what it lacks."""


class Layer(msgspec.Struct, frozen=True):
    """One layer's part in the cache of keys and values."""

    values: int
    """Values kept per token, keys and values together; 0 for an encoder."""
    window: int | None = None
    """Tokens it looks back at; None: all."""
    whole: int | None = None
    """Values per token in engines that keep whole heads where `values` is a compressed form."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The widths that memory depends on, in values."""

    architecture: str
    layers: tuple[Layer, ...]
    hidden: int
    feed_forward: int
    gated: bool
    """Whether the feed-forward part has a gate beside its first projection."""
    query: int
    """Attention heads times head size."""
    vocabulary: int
    context: int
    """Tokens the model was trained for."""


class Stored(msgspec.Struct, frozen=True):
    """All tensors of one type."""

    type: str
    """As the file names it: Q8_0, BF16, …"""
    tensors: int
    values: int
    bytes: int


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    source: Source
    shape: Shape
    stored: tuple[Stored, ...]
    """By type, largest first."""
    header: int = 0
    """Bytes of a GGUF header, which holds the vocabulary."""
    notes: tuple[str, ...] = ()
    """What was assumed, in whole sentences."""

    @property
    def parameters(self) -> int:
        return sum(stored.values for stored in self.stored)

    @property
    def bytes(self) -> int:
        return sum(stored.bytes for stored in self.stored)


class Tensor(msgspec.Struct, frozen=True):
    type: str
    values: int
    bytes: int


def by_type(tensors: list[Tensor]) -> tuple[Stored, ...]:
    types: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        types.setdefault(tensor.type, []).append(tensor)
    stored = [
        Stored(type, len(group), sum(t.values for t in group), sum(t.bytes for t in group))
        for type, group in types.items()
    ]
    return tuple(sorted(stored, key=lambda one: -one.bytes))
