"""A training step on torch's meta device: shapes without values, and the bytes that live at once.

It runs what a real step runs: the base's own layers with an adapter by peft, trl's fused head,
checkpointing, forward and backward. What does not run without values has a stand-in that keeps
the same storages alive: 4-bit layers, attention, and what trl's head folds in place on a card.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from peft import get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM, masking_utils
from trl.kernels import chunked_logprob
from trl.trainer.utils import add_fused_lm_head

from trainer.child.model import lora
from trainer.estimate import DryRun, Peak, Peaks
from trainer.plan import Hyperparameters

BLOCK = 64
"""Values of a 4-bit weight that share a scale."""
NESTED = 256
"""Scales that share one of their own, in double quantisation."""
STATES = {"adamw": 8.0, "paged_adamw_8bit": 2.0 + 8 / 256}
"""Bytes of the optimiser for each trainable parameter."""
HEAD = ("log_probs", "entropy", "is_top1")


class Living(TorchDispatchMode):  # type: ignore[misc]
    """The bytes of all storages that are alive, and the most there were at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.add(made)
        return made

    def add(self, tree: Any) -> None:
        for leaf in tree_leaves(tree):
            if isinstance(leaf, torch.Tensor) and leaf.device.type == "meta":
                self._hold(leaf.untyped_storage())

    def _hold(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        known = self._known.get(key)
        if known is not None and known() is not None:
            return
        self.now += size
        self.peak = max(self.peak, self.now)

        def freed(_: Any) -> None:
            self.now -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, freed)


class FourBit(torch.nn.Linear):  # type: ignore[misc]
    """bitsandbytes' layer: packed weights that stay, whole ones for the length of a product."""

    def __init__(self, inside: int, outside: int, bias: Any, dtype: torch.dtype) -> None:
        torch.nn.Module.__init__(self)
        self.in_features, self.out_features = inside, outside
        self.bias = bias
        count = inside * outside
        packed = torch.empty(count // 2, dtype=torch.uint8, device="meta")
        self.weight = torch.nn.Parameter(packed, requires_grad=False)
        scales = count // BLOCK
        self.scales = torch.empty(scales + 4 * (scales // NESTED), dtype=torch.uint8, device="meta")
        self.dtype = dtype
        self.unpacked = count * dtype.itemsize

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = (self.out_features, self.in_features)
        made = Product.apply(x.to(self.dtype), self.bias, size)
        return made.to(x.dtype).clone()


class Product(torch.autograd.Function):  # type: ignore[misc]
    """x @ W.T with a W that is unpacked each time it is needed."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, bias: Any, size: tuple[int, int]) -> torch.Tensor:
        ctx.size = size
        return torch.nn.functional.linear(x, x.new_empty(size), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        return grad @ grad.new_empty(ctx.size), None, None


class Attention(torch.autograd.Function):  # type: ignore[misc]
    """What flash attention keeps: its inputs, its output, one number a row and head."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        made = q.new_empty((*q.shape[:-1], v.shape[-1]))
        sums = q.new_empty(q.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(q, k, v, made, sums)
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        q, k, v, _, _ = ctx.saved_tensors
        gathered = q.new_empty(q.shape, dtype=torch.float32)
        found = tuple(torch.empty_like(each) for each in (q, k, v))
        del gathered
        return found


def attend(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
    return Attention.apply(query, key, value)


@contextmanager
def stand_ins(device: str) -> Iterator[None]:
    """On a card trl folds the logits in place; on a CPU it does so by torch, which is run."""
    functional = torch.nn.functional
    with (
        mock.patch.object(functional, "scaled_dot_product_attention", attend),
        mock.patch.object(torch, "is_autocast_enabled", lambda *_: False),
        mock.patch.object(masking_utils, "find_packed_sequence_indices", lambda _: None),
    ):
        if device == "cpu":
            yield
            return
        with (
            mock.patch.object(chunked_logprob, "_forward_tile", lambda *_, **__: None),
            mock.patch.object(chunked_logprob, "_backward_tile", lambda *_, **__: None),
        ):
            yield


def dry_run(asked: DryRun) -> Peaks:
    """Raises OSError and ValueError for a base that transformers does not know."""
    with stand_ins(asked.device):
        return Peaks(
            peaks=tuple(
                peak(Path(asked.base), each, asked.method, asked.device)
                for each in asked.candidates
            )
        )


def peak(folder: Path, chosen: Hyperparameters, method: str, device: str) -> Peak:
    model, base = build(folder, chosen)
    trained = [each for each in model.parameters() if each.requires_grad]
    count = sum(each.numel() for each in trained)
    # On a card autocast computes in the base's type beside adapters of 4 bytes, unless it is
    # quantised: there trl makes the adapters 2 bytes wide.
    wide = device == "cpu" or chosen.quantise == "none" or chosen.dtype == "float16"
    width = 4 if wide else 2
    held = sum(each.numel() * each.element_size() for each in trained)
    living = Living()
    living.add(list(model.parameters()))
    living.add(list(model.buffers()))
    living.add([each.scales for each in model.modules() if isinstance(each, FourBit)])
    rows = chosen.batch * (2 if method == "dpo" else 1)
    ids = torch.zeros((rows, chosen.max_length), dtype=torch.long, device="meta")
    with living:
        step(model, ids, method)
    optimiser = int(count * STATES[chosen.optimiser])
    # Of gradients there is one set at the peak; with accumulation they are there from the start.
    extra = (2 if chosen.accumulation == 1 else 3) * (count * width - held)
    extra += held if chosen.accumulation > 1 else 0
    updating = base + count * width * 4 + optimiser
    return Peak(
        peak=max(living.peak + extra + optimiser, updating),
        base=base,
        adapter=count * width,
        optimiser=optimiser,
        trainable=count,
        unpacked=sum(each.unpacked for each in model.modules() if isinstance(each, FourBit)),
    )


def build(folder: Path, chosen: Hyperparameters) -> tuple[Any, int]:
    """The adapted model, and the bytes of its base."""
    dtype = getattr(torch, chosen.dtype)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    base.requires_grad_(False)
    if chosen.quantise == "nf4":
        pack(base, dtype)
    size = sum(each.numel() * each.element_size() for each in base.parameters())
    size += sum(each.scales.numel() for each in base.modules() if isinstance(each, FourBit))
    add_fused_lm_head(base, outputs=HEAD)
    model = get_peft_model(base, lora(chosen), autocast_adapter_dtype=False)
    for each in model.parameters():
        if each.requires_grad:
            each.data = each.data.to(device="meta", dtype=dtype)
    model.train()
    if chosen.checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model, size


def pack(base: Any, dtype: torch.dtype) -> None:
    """Every linear layer but the head, as transformers quantises it."""
    head = base.get_output_embeddings()
    for parent in list(base.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Linear and child is not head:
                made = FourBit(child.in_features, child.out_features, child.bias, dtype)
                setattr(parent, name, made)


def step(model: Any, ids: torch.Tensor, method: str) -> None:
    rows, length = ids.shape
    mask = None
    if rows > 1:
        mask = torch.ones((rows, 1, length, length), dtype=torch.bool, device="meta")
    given = {"input_ids": ids, "labels": ids, "attention_mask": mask, "use_cache": False}
    outputs = model(**given, fused_lm_head=True)
    if method == "dpo":
        with torch.no_grad(), model.disable_adapter():
            model(**given, fused_lm_head=True)
    loss = -outputs.log_probs.sum()
    loss.backward()
