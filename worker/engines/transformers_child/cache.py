"""The KV cache of a batch: one slot of `context` tokens for each request, in place.

The models of transformers write to and read from it as to their own caches. Rows of a step are
the first slots, so that what attention reads is a view and nothing is copied.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer


class Step(NamedTuple):
    """Which slots a forward pass is about: `first` to `first + rows`, each at its own place."""

    first: int
    positions: torch.Tensor
    """(rows, tokens): where each token of the step stands in its request."""
    length: int
    """Tokens of the longest request in it, those of the step included."""


class SlotLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, (slots, heads, context, width), made by the first use."""

    def __init__(self, cache: SlotCache) -> None:
        super().__init__()
        self._cache = cache
        self.slots: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Both (rows, heads, tokens, width); returns all that their rows hold."""
        if self.slots is None:
            self.slots = self._cache.room(key_states), self._cache.room(value_states)
        first, positions, length = self._cache.step
        rows = torch.arange(first, first + len(positions), device=positions.device)[:, None]
        read = []
        for kept, new in zip(self.slots, (key_states, value_states), strict=True):
            kept[rows, :, positions] = new.transpose(1, 2)
            read.append(kept[first : first + len(positions), :, :length])
        return read[0], read[1]

    def get_seq_length(self) -> int:
        return self._cache.step.length - int(self._cache.step.positions.shape[1])

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._cache.step.length, 0


class SlotCache(Cache):  # type: ignore[misc]
    """Set `step` before each forward pass."""

    step: Step

    def __init__(self, layers: int, slots: int, context: int) -> None:
        super().__init__(layers=[SlotLayer(self) for _ in range(layers)])
        self._slots = slots
        self._context = context

    def room(self, like: torch.Tensor) -> torch.Tensor:
        """Zeros, which on a CPU take memory only where they are written to.

        Masked places are multiplied by nothing, and nothing times what memory held may be NaN.
        """
        heads, width = like.shape[1], like.shape[3]
        shape = (self._slots, heads, self._context, width)
        if like.device.type != "cpu":
            return torch.zeros(shape, dtype=like.dtype, device=like.device)
        size = int(np.prod(shape)) * like.element_size()
        return torch.from_numpy(np.zeros(size, np.uint8)).view(like.dtype).view(shape)

    def move(self, source: int, target: int, length: int) -> None:
        """A request of `length` tokens takes another slot."""
        for layer in self.layers:
            for kept in layer.slots or ():
                kept[target, :, :length] = kept[source, :, :length]

    def clear(self) -> None:
        """Give the memory back; nothing may be in a slot."""
        for layer in self.layers:
            layer.slots = None
