"""What an adapter adds to each matrix of its base."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.adapter_gguf import WEIGHTS, Recipe, pairs, read_safetensors

Matrix = NDArray[np.float32]


class Delta:
    """Of a peft folder. Raises Unfit, OSError and msgspec.MsgspecError."""

    def __init__(self, folder: Path) -> None:
        recipe = msgspec.json.decode((folder / "adapter_config.json").read_bytes(), type=Recipe)
        recipe.check()
        self._recipe = recipe
        self._pairs = pairs(read_safetensors(folder / WEIGHTS))

    @property
    def modules(self) -> frozenset[str]:
        """As the Hugging Face model names them."""
        return frozenset(self._pairs)

    def of(self, module: str) -> Matrix:
        """Outputs x inputs."""
        a, b = self._pairs[module]
        rank = a.shape[0]
        scale = self._recipe.lora_alpha / rank * self._recipe.factor(rank)
        return (b @ a) * np.float32(scale)
