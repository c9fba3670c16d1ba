"""A base of one layer and an adapter of it: as arrays, and as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

from shared.adapter_gguf import permuted

HEADS, KEY_HEADS, HEAD, WIDTH = 4, 2, 8, 64
SHAPES = {
    "self_attn.q_proj": ("attn_q", (HEADS * HEAD, WIDTH), HEADS),
    "self_attn.k_proj": ("attn_k", (KEY_HEADS * HEAD, WIDTH), KEY_HEADS),
    "mlp.up_proj": ("ffn_up", (96, WIDTH), 0),
    "mlp.down_proj": ("ffn_down", (WIDTH, 96), 0),
}
Arrays = dict[str, np.ndarray[Any, Any]]


def a_base() -> Arrays:
    """By the names of Hugging Face."""
    dice = np.random.default_rng(1)
    made: Arrays = {
        f"model.layers.0.{module}.weight": dice.normal(size=shape).astype(np.float32)
        for module, (_, shape, _) in SHAPES.items()
    }
    made["model.embed_tokens.weight"] = dice.normal(size=(50, WIDTH)).astype(np.float32)
    made["model.norm.weight"] = dice.normal(size=(WIDTH,)).astype(np.float32)
    return made


def a_delta() -> Arrays:
    dice = np.random.default_rng(2)
    made = {}
    for module, (_, (outside, inside), _) in SHAPES.items():
        key = f"base_model.model.model.layers.0.{module}"
        made[f"{key}.lora_A.weight"] = dice.normal(size=(4, inside)).astype(np.float32)
        made[f"{key}.lora_B.weight"] = dice.normal(size=(outside, 4)).astype(np.float32)
    return made


def expected(base: Arrays, deltas: Arrays, name: str) -> np.ndarray[Any, Any]:
    key = f"base_model.model.{name.removesuffix('.weight')}"
    if f"{key}.lora_A.weight" not in deltas:
        return base[name]
    return base[name] + 3 * deltas[f"{key}.lora_B.weight"] @ deltas[f"{key}.lora_A.weight"]


def gguf_file(path: Path, base: Arrays, kind: GGMLQuantizationType) -> Path:
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_token_list(["a", "b", "ç"])
    writer.add_chat_template("{{ messages }}")
    writer.add_tensor("output_norm.weight", base["model.norm.weight"])
    matrices = {"token_embd": (base["model.embed_tokens.weight"], 0)} | {
        f"blk.0.{name}": (base[f"model.layers.0.{module}.weight"], heads)
        for module, (name, _, heads) in SHAPES.items()
    }
    for name, (values, heads) in matrices.items():
        rows = permuted(values, heads) if heads else values
        writer.add_tensor(f"{name}.weight", quantize(rows, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
