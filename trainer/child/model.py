"""The base and the adapter on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from trainer.child.words import UnfitError
from trainer.plan import Hyperparameters

ADAPTED = "all-linear"
"""Every linear layer but the head."""


def load(folder: Path, chosen: Hyperparameters, device: str) -> Any:
    """The base alone, on its device. Raises UnfitError."""
    dtype = getattr(torch, chosen.dtype)
    more = {"quantization_config": four_bit(dtype)} if chosen.quantise == "nf4" else {}
    try:
        base = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            device_map={"": "cuda:0" if device == "cuda" else "cpu"},
            attn_implementation="sdpa",
            local_files_only=True,
            use_safetensors=True,
            **more,
        )
    except (OSError, ValueError, ImportError) as error:
        said = " ".join(str(error).split())[:300]
        raise UnfitError(f"The base cannot be loaded: {said}") from error
    keep_layout(base)
    return base


def keep_layout(base: Any) -> None:
    """Where a CPU has AVX512-BF16, bitsandbytes repacks 4-bit weights at the first validation.

    There is no way back from that layout and no gradient through it: every step behind such a
    validation would train wrongly, with a warning at most.
    """
    for each in base.modules():
        if hasattr(each, "support_avx512bf16_for_cpu"):
            each.support_avx512bf16_for_cpu = False


def four_bit(dtype: torch.dtype) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def lora(chosen: Hyperparameters) -> LoraConfig:
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=chosen.rank,
        lora_alpha=chosen.alpha,
        lora_dropout=chosen.dropout,
        bias="none",
        target_modules=ADAPTED,
    )


def adapt(base: Any, chosen: Hyperparameters) -> Any:
    """Random as the seed says; raises UnfitError."""
    torch.manual_seed(chosen.seed)
    try:
        return get_peft_model(base, lora(chosen))
    except ValueError as error:
        raise UnfitError(f"The base cannot be adapted: {error}") from error


def trainable(model: Any) -> int:
    return sum(each.numel() for each in model.parameters() if each.requires_grad)


def widen(model: Any) -> None:
    """To float32 what trl makes bfloat16 beside 4 bits: on a CPU that costs twice the time, and
    float16's scaler cannot work on it."""
    for each in model.parameters():
        if each.requires_grad:
            each.data = each.data.to(torch.float32)
