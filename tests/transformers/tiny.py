"""Random models of other families: `python tiny.py TOKENIZER_FOLDER FOLDER FAMILY`.

Run by the interpreter of an environment with torch and transformers; imports nothing of ours.
"""

from __future__ import annotations

import sys

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

SHAPES = {
    "gemma3_text": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "sliding_window": 4,
        "max_position_embeddings": 2048,
    },
    "llama": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "tie_word_embeddings": True,
        "max_position_embeddings": 2048,
        "initializer_range": 0.02,
    },
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
}


def main(tokenizer: str, folder: str, family: str) -> None:
    torch.manual_seed(1)
    words = AutoTokenizer.from_pretrained(tokenizer)
    config = AutoConfig.for_model(
        family,
        **{"initializer_range": 0.5} | SHAPES[family],
        vocab_size=len(words),
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    words.save_pretrained(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
