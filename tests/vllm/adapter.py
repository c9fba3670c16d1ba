"""Small LoRA adapters for the chat model, made out of nothing but a seed."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

LAYERS = 30
HIDDEN = 576
OUTPUTS = {"q_proj": 576, "v_proj": 192}
PREFIX = "base_model.model.model.layers"


def write(folder: Path, seed: int, *, rank: int = 8, hidden: int = HIDDEN) -> Path:
    """An adapter that is strong enough to change what is generated; `hidden` makes it misfit."""
    folder.mkdir()
    random = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for layer in range(LAYERS):
        for module, width in OUTPUTS.items():
            name = f"{PREFIX}.{layer}.self_attn.{module}"
            tensors[f"{name}.lora_A.weight"] = random.normal(0, 0.05, (rank, hidden))
            tensors[f"{name}.lora_B.weight"] = random.normal(0, 0.05, (width, rank))
    save(folder / "adapter_model.safetensors", tensors)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "base",
        "r": rank,
        "lora_alpha": 16,
        "target_modules": sorted(OUTPUTS),
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def save(file: Path, tensors: dict[str, np.ndarray]) -> None:
    """Write float32 tensors as safetensors."""
    header, pieces, end = {}, [], 0
    for name, tensor in tensors.items():
        piece = tensor.astype("<f4").tobytes()
        offsets = [end, end + len(piece)]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": offsets}
        pieces.append(piece)
        end += len(piece)
    told = json.dumps(header).encode()
    told += b" " * (-len(told) % 8)
    file.write_bytes(struct.pack("<Q", len(told)) + told + b"".join(pieces))
