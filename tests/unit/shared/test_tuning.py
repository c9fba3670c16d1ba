"""Who can be fine-tuned, and who can serve an adapter."""

from __future__ import annotations

from typing import Any

import pytest

from shared.settings import Model
from shared.tuning import largest_rank, trainable


@pytest.mark.parametrize(
    ("model", "can", "rank"),
    [
        ({"engine": "llamacpp", "file": "a.gguf"}, True, None),
        ({"engine": "llamacpp", "file": "a.gguf", "kind": "embedding"}, False, 0),
        ({"engine": "transformers", "weights": "a"}, True, None),
        ({"engine": "vllm", "weights": "a", "max_lora_rank": 32}, True, 32),
        ({"engine": "vllm", "weights": "a", "adapters": {"b": "b"}}, True, 16),
        ({"engine": "vllm", "weights": "a"}, False, 0),
        ({"engine": "openai", "url": "http://a/v1", "train_weights": "a"}, False, 0),
    ],
)
def test_who_can(model: dict[str, Any], can: bool, rank: int | None) -> None:
    asked = Model(**model)
    assert (trainable(asked), largest_rank(asked)) == (can, rank)
