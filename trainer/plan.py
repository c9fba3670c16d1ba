"""What a training child is told: `plan.json` in the job's folder, and orders on standard input."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

FILE = "plan.json"
Method = Literal["supervised", "dpo"]
Quantisation = Literal["none", "nf4"]
Dtype = Literal["float32", "bfloat16", "float16"]
Optimiser = Literal["adamw", "paged_adamw_8bit"]


class Hyperparameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All resolved: nothing is left to choose once a child starts."""

    epochs: int
    batch: int
    """Examples computed at once."""
    accumulation: int
    """Batches whose gradients make one step; batch x accumulation examples a step."""
    learning_rate: float
    rank: int
    alpha: int
    dropout: float = 0.0
    max_length: int
    """Tokens of one example; longer ones are cut at the end."""
    seed: int
    quantise: Quantisation
    """nf4: 4-bit base with double quantisation (QLoRA)."""
    dtype: Dtype
    """Of the base's weights and of the computation."""
    optimiser: Optimiser = "adamw"
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about half as much time again."""
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises; afterwards it falls to 0 linearly."""
    beta: float = 0.1
    """DPO: how strongly the tuned model is held to its base."""
    checkpoint_every: int
    """Steps between two checkpoints; the last step always has one."""
    validate_every: int = 0
    """Steps between two validations; 0: once, at the end."""
    keep: int = 2
    """Checkpoints that stay, with the best by validation loss beside them."""


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One job. Every path is absolute."""

    job: str
    base: str
    """A Hugging Face folder with safetensors."""
    base_gguf: str | None = None
    """The same base as llama.cpp has it: with it the adapter is written as GGUF too."""
    method: Method
    train: str
    validation: str | None = None
    prompts: tuple[str, ...] = ()
    """Test prompts that base and tuned model answer at the end."""
    answer_tokens: int = 64
    """Of one answer to a test prompt, at most."""
    hyperparameters: Hyperparameters
    device: Literal["cpu", "cuda"]
    """cuda is the one card that CUDA_VISIBLE_DEVICES leaves."""
    threads: int
    memory: int = 0
    """Bytes that torch may take on the card; 0: no bound."""

    def write(self, folder: Path) -> None:
        """Whole or not at all."""
        part = folder / f"{FILE}.part"
        part.write_bytes(msgspec.json.format(msgspec.json.encode(self)))
        part.replace(folder / FILE)

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """Raises OSError and msgspec.MsgspecError."""
        return msgspec.json.decode((folder / FILE).read_bytes(), type=cls)


Order = Literal["pause", "cancel", "stop", "hold", "go"]
"""One line of standard input each, obeyed when the running step has ended.

pause, cancel, stop: write a checkpoint and exit; they differ in the reason that is reported.
hold: stay where it is, with all memory, until `go`.
"""
ORDERS: frozenset[str] = frozenset(("pause", "cancel", "stop", "hold", "go"))

FINISHED = 0
"""Exit status: the adapter is written, `Done` was reported."""
BROKEN = 1
"""Exit status: it cannot go on, `Broken` was reported."""
UNREADABLE = 2
"""Exit status: there is no plan that can be read; standard error says why."""
YIELDED = 3
"""Exit status: it stopped by order behind a checkpoint, `Yielded` was reported."""
