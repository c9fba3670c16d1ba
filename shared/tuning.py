"""Which models can be fine-tuned, and whose engines can serve what comes of it. Pure."""

from __future__ import annotations

from shared.settings import Model
from shared.vllm import adapter_rank

ELSEWHERE = ("openai", "ollama")


def trainable(model: Model) -> bool:
    """Whether the settings say where the weights are that an adapter is trained on."""
    return largest_rank(model) != 0 and (
        model.train_weights is not None
        or (model.engine in ("vllm", "transformers") and model.weights is not None)
        or model.engine == "llamacpp"
    )


def largest_rank(model: Model) -> int | None:
    """Of an adapter that the model's engine takes; None: any, 0: it takes none."""
    if model.kind != "chat" or model.engine in ELSEWHERE:
        return 0
    return adapter_rank(model) or 0 if model.engine == "vllm" else None
