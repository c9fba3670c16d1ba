"""Small LoRA adapters for the embedded chat model, as peft saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

WIDTH, HEADS, KEY_HEADS, HEAD, WIDE = 576, 9, 3, 64, 1536
"""Of SmolLM2-135M: hidden size, heads, key heads, head size, feed-forward width."""
LAYERS = (0, 7, 14, 21, 29)
MODULES = {
    "self_attn.q_proj": (HEADS * HEAD, WIDTH),
    "self_attn.k_proj": (KEY_HEADS * HEAD, WIDTH),
    "self_attn.v_proj": (KEY_HEADS * HEAD, WIDTH),
    "self_attn.o_proj": (WIDTH, HEADS * HEAD),
    "mlp.gate_proj": (WIDE, WIDTH),
    "mlp.down_proj": (WIDTH, WIDE),
}
"""Outputs and inputs of each."""


def config(**changes: Any) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 4,
        "lora_alpha": 8,
        "bias": "none",
        "use_dora": False,
        "use_rslora": False,
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "rank_pattern": {},
        "alpha_pattern": {},
        "target_modules": [name.rpartition(".")[2] for name in MODULES],
    } | changes


def matrices(seed: int, rank: int = 4, strength: float = 0.05) -> dict[str, np.ndarray[Any, Any]]:
    """Random ones, strong enough to change what the model says and too weak to break it."""
    dice = np.random.default_rng(seed)
    made = {}
    for layer in LAYERS:
        for module, (outputs, inputs) in MODULES.items():
            name = f"base_model.model.model.layers.{layer}.{module}"
            a = dice.normal(size=(rank, inputs)) / np.sqrt(inputs)
            b = dice.normal(size=(outputs, rank)) * strength
            made[f"{name}.lora_A.weight"] = a.astype(np.float32)
            made[f"{name}.lora_B.weight"] = b.astype(np.float32)
    return made


def save(
    folder: Path,
    seed: int = 1,
    tensors: dict[str, np.ndarray[Any, Any]] | None = None,
    **changes: Any,
) -> Path:
    """Write the folder and return it."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(config(**changes)))
    save_file(matrices(seed) if tensors is None else tensors, folder / "adapter_model.safetensors")
    return folder


def strong(folder: Path, seed: int) -> Path:
    """One that changes what is said from the first words on."""
    return save(folder, seed, matrices(seed, strength=0.5))
