"""Vectors of texts, pooled as the model's folder says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils import cached_file

from worker.engines.transformers_child.model import UnfitError, load
from worker.engines.transformers_child.options import Options
from worker.engines.transformers_child.refusal import Refusal, too_long

POOLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
}
KNOWN = frozenset(("Transformer", "Pooling", "Normalize"))


def pooling(weights: str) -> str:
    """mean, cls or lasttoken, by the files of sentence-transformers; mean without them."""
    modules = read(weights, "modules.json")
    if modules is None:
        return "mean"
    kinds = {str(module["type"]).rpartition(".")[2]: module for module in modules}
    if unknown := set(kinds) - KNOWN:
        raise UnfitError(f"modules.json asks for {', '.join(sorted(unknown))}, which is not served")
    if "Pooling" not in kinds:
        return "mean"
    told = read(weights, f"{kinds['Pooling']['path']}/config.json") or {}
    named = {told["pooling_mode"]} if isinstance(told.get("pooling_mode"), str) else set()
    asked = named | {name for key, name in POOLINGS.items() if told.get(key)}
    others = [key for key, on in told.items() if key.startswith("pooling_mode_") and on is True]
    if len(asked) != 1 or set(others) - set(POOLINGS) or asked - set(POOLINGS.values()):
        raise UnfitError("its pooling is none of mean, cls and lasttoken")
    return asked.pop()


def read(weights: str, name: str) -> Any:
    """A JSON file of the model, None where it has none."""
    path = cached_file(weights, name, _raise_exceptions_for_missing_entries=False)
    return json.loads(Path(path).read_bytes()) if path is not None else None


class Encoder:
    """Called by the model's thread alone."""

    def __init__(self, options: Options) -> None:
        self._pooling = pooling(options.weights)
        self._tokenizer = AutoTokenizer.from_pretrained(options.weights)
        self._model = load(AutoModel, options)
        self._options = options
        self._device = torch.device("cuda" if options.cuda else "cpu")
        longest = getattr(self._model.config, "max_position_embeddings", None)
        if longest is not None and options.context > longest:
            raise UnfitError(f"context is {options.context}, and the model takes {longest} tokens")
        self.vocabulary = int(self._model.get_input_embeddings().weight.shape[0])

    def embed(self, inputs: Sequence[str | list[int]]) -> tuple[list[list[float]], int]:
        """A vector of length 1 for each input, and the tokens they took; raises Refusal."""
        ids = [self._ids(one, at) for at, one in enumerate(inputs)]
        order = sorted(range(len(ids)), key=lambda at: len(ids[at]))
        vectors: dict[int, list[float]] = {}
        # As many at once as the memory was reserved for, and of much the same length.
        for start in range(0, len(order), self._options.parallel):
            chosen = order[start : start + self._options.parallel]
            with torch.inference_mode():
                rows = self._encode([ids[at] for at in chosen])
            vectors.update(zip(chosen, rows.tolist(), strict=True))
        return [vectors[at] for at in range(len(ids))], sum(map(len, ids))

    def _ids(self, one: str | list[int], at: int) -> list[int]:
        ids = one if isinstance(one, list) else list(self._tokenizer(one)["input_ids"])
        wrong = next((token for token in ids if not 0 <= token < self.vocabulary), None)
        if wrong is not None or not ids:
            raise Refusal(
                f"Token id {wrong} is out of range; this model knows 0 to {self.vocabulary - 1}."
                if ids
                else "An input is empty.",
                param=f"input[{at}]",
            )
        if len(ids) > self._options.context:
            raise too_long(len(ids), self._options.context, f"input[{at}]")
        return ids

    def _encode(self, ids: list[list[int]]) -> torch.Tensor:
        """(rows, width), 32 bit, on the CPU."""
        longest = max(map(len, ids))
        told = torch.zeros(len(ids), longest, dtype=torch.long)
        mask = torch.zeros(len(ids), longest, dtype=torch.long)
        for at, row in enumerate(ids):
            told[at, : len(row)] = torch.tensor(row)
            mask[at, : len(row)] = 1
        mask = mask.to(self._device)
        states = self._model(
            input_ids=told.to(self._device), attention_mask=mask
        ).last_hidden_state.float()
        if self._pooling == "cls":
            pooled = states[:, 0]
        elif self._pooling == "lasttoken":
            pooled = states[torch.arange(len(ids)), mask.sum(1) - 1]
        else:
            pooled = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        return torch.nn.functional.normalize(pooled, dim=-1).cpu()

    def sleep(self) -> None:
        self._model.to("cpu")
        torch.cuda.empty_cache()

    def wake(self) -> None:
        self._model.to(self._device)
