"""Parameters of the known architectures, counted from their widths alone."""

from __future__ import annotations

from typing import NamedTuple

from shared.weights.config import Config
from shared.weights.shape import WeightsError


class Architecture(NamedTuple):
    """What sets one family apart from Llama's plan of a layer."""

    query_bias: bool = False
    """Biases on queries, keys and values, whatever attention_bias says."""
    head_norms: bool = False
    """A norm per head on queries and on keys."""
    norms: int = 2
    """Norms of the model's width in a layer."""
    tied: bool = False
    """Whether input and output share their embedding where the config does not say."""


ARCHITECTURES = {
    "llama": Architecture(),
    "mistral": Architecture(),
    "phi3": Architecture(),
    "qwen2": Architecture(query_bias=True),
    "qwen3": Architecture(head_norms=True),
    "gemma2": Architecture(norms=4, tied=True),
    "gemma3_text": Architecture(norms=4, head_norms=True, tied=True),
}


def parameters(config: Config) -> int:
    """Raises WeightsError for an architecture that is not in ARCHITECTURES."""
    plan = ARCHITECTURES.get(config.model_type)
    if plan is None:
        raise WeightsError(
            f"The shapes of {config.family} are not known, and there are no safetensors files to"
            f" read them from. Known: {', '.join(ARCHITECTURES)}."
        )
    if config.composite:
        raise WeightsError("A model with more than a text part needs the safetensors files.")
    hidden, wide, layers, heads, vocabulary = config.need(
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"
    )
    width = config.head_dim or hidden // heads
    shared = config.num_key_value_heads or heads
    if isinstance(width, list) or isinstance(shared, list):
        raise WeightsError("Heads that differ by layer need the safetensors files.")
    query, pair = heads * width, 2 * shared * width
    attention = hidden * (query + pair) + query * hidden
    if plan.query_bias:
        attention += query + pair
    elif config.attention_bias:
        attention += query + pair + hidden
    feed_forward = 3 * hidden * wide + (2 * wide + hidden if config.mlp_bias else 0)
    norms = plan.norms * hidden + (2 * width if plan.head_norms else 0)
    tied = plan.tied if config.tie_word_embeddings is None else config.tie_word_embeddings
    embeddings = vocabulary * hidden * (1 if tied else 2)
    return embeddings + layers * (attention + feed_forward + norms) + hidden
