"""The config.json of published models, as far as memory depends on it, and their parameters."""

from __future__ import annotations

from typing import Any

LLAMA = {"model_type": "llama", "torch_dtype": "bfloat16"}
QWEN2 = {
    "model_type": "qwen2",
    "torch_dtype": "bfloat16",
    "sliding_window": 131072,
    "use_sliding_window": False,
    "max_window_layers": 28,
}
QWEN3 = {
    "model_type": "qwen3",
    "torch_dtype": "bfloat16",
    "attention_bias": False,
    "head_dim": 128,
    "sliding_window": None,
    "use_sliding_window": False,
}
GEMMA2 = {
    "model_type": "gemma2",
    "torch_dtype": "bfloat16",
    "head_dim": 256,
    "sliding_window": 4096,
    "attention_bias": False,
}


def sizes(
    hidden: int,
    wide: int,
    layers: int,
    heads: tuple[int, int],
    vocabulary: int,
    context: int,
    tied: bool | None,
) -> dict[str, Any]:
    """`heads`: of queries, of keys and values. `tied` None: the config does not say."""
    values = {
        "hidden_size": hidden,
        "intermediate_size": wide,
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
    }
    return values if tied is None else values | {"tie_word_embeddings": tied}


MODELS: dict[str, tuple[dict[str, Any], int, int]] = {
    "Llama-3.1-8B": (
        LLAMA | sizes(4096, 14336, 32, (32, 8), 128256, 131072, False),
        8_030_261_248,
        131072,
    ),
    "Llama-3.2-1B": (
        LLAMA | {"head_dim": 64} | sizes(2048, 8192, 16, (32, 8), 128256, 131072, True),
        1_235_814_400,
        32768,
    ),
    "Llama-3.2-3B": (
        LLAMA | {"head_dim": 128} | sizes(3072, 8192, 28, (24, 8), 128256, 131072, True),
        3_212_749_824,
        114688,
    ),
    "Qwen2.5-0.5B": (
        QWEN2 | sizes(896, 4864, 24, (14, 2), 151936, 32768, True),
        494_032_768,
        12288,
    ),
    "Qwen2.5-7B": (
        QWEN2 | sizes(3584, 18944, 28, (28, 4), 152064, 131072, False),
        7_615_616_512,
        57344,
    ),
    "Qwen2.5-14B": (
        QWEN2 | sizes(5120, 13824, 48, (40, 8), 152064, 131072, False),
        14_770_033_664,
        196608,
    ),
    "Qwen3-4B": (
        QWEN3 | sizes(2560, 9728, 36, (32, 8), 151936, 40960, True),
        4_022_468_096,
        147456,
    ),
    "Qwen3-8B": (
        QWEN3 | sizes(4096, 12288, 36, (32, 8), 151936, 40960, False),
        8_190_735_360,
        147456,
    ),
    "Mistral-7B-v0.3": (
        {"model_type": "mistral", "torch_dtype": "bfloat16", "sliding_window": None}
        | sizes(4096, 14336, 32, (32, 8), 32768, 32768, False),
        7_248_023_552,
        131072,
    ),
    "gemma-2-2b": (
        GEMMA2 | sizes(2304, 9216, 26, (8, 4), 256000, 8192, None),
        2_614_341_888,
        106496,
    ),
    "gemma-2-9b": (
        GEMMA2 | sizes(3584, 14336, 42, (16, 8), 256000, 8192, None),
        9_241_705_984,
        344064,
    ),
    "gemma-3-1b-it": (
        {
            "model_type": "gemma3_text",
            "torch_dtype": "bfloat16",
            "head_dim": 256,
            "sliding_window": 512,
            "sliding_window_pattern": 6,
        }
        | sizes(1152, 6912, 26, (4, 1), 262144, 32768, None),
        999_885_952,
        26624,
    ),
    "Phi-3.5-mini-instruct": (
        {"model_type": "phi3", "torch_dtype": "bfloat16", "sliding_window": 262144}
        | sizes(3072, 8192, 32, (32, 32), 32064, 131072, False),
        3_821_079_552,
        393216,
    ),
    "SmolLM2-135M": (
        LLAMA | sizes(576, 1536, 30, (9, 3), 49152, 8192, True),
        134_515_008,
        23040,
    ),
    "SmolLM2-1.7B": (
        LLAMA | sizes(2048, 8192, 24, (32, 32), 49152, 8192, True),
        1_711_376_384,
        196608,
    ),
}
"""Config, published number of parameters, and 16-bit bytes of cache per token where no window
cuts it."""
