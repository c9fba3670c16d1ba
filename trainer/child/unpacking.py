"""A GGUF file made the Hugging Face folder that adapters are trained on, with the same weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from trainer.survey import Unpack, Unpacked


def unpack(asked: Unpack) -> Unpacked:
    """The folder appears whole or not at all; raises OSError and ValueError."""
    file, folder = Path(asked.file), Path(asked.folder)
    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    model = AutoModelForCausalLM.from_pretrained(
        **source,
        quantization_config=GgufConfig(dequantize=True),
        dtype=getattr(torch, asked.dtype),
    )
    tokenizer = AutoTokenizer.from_pretrained(**source)
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    part.rename(folder)
    return Unpacked(sum(path.stat().st_size for path in folder.iterdir()))
