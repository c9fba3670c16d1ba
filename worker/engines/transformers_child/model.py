"""A causal language model and its tokenizer, and one step of it over slots of a cache."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from worker.engines.transformers_child.cache import SlotCache, Step
from worker.engines.transformers_child.lora import Adapters
from worker.engines.transformers_child.options import Options

KNOWN_LAYERS = frozenset(("full_attention", "sliding_attention"))
PROBE = 12
"""Tokens of the check that the model computes the same in slots as on its own."""
TOLERANCE = {torch.float32: 0.01}
ROUGH = 0.1
"""Of the largest logit, for types of 16 bits and quantised weights."""


class UnfitError(Exception):
    """The model cannot be served; the message says why."""


def attention(config: Any) -> tuple[set[str], int | None]:
    """The kinds of layers, and the window of those that have one; raises UnfitError."""
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if unknown := kinds - KNOWN_LAYERS:
        raise UnfitError(f"layers of the kind {', '.join(sorted(unknown))} cannot be batched")
    if not kinds:
        kinds = {"sliding_attention" if window else "full_attention"}
    return kinds, window


class Language:
    """Everything here is called by one thread, except `tokenizer`."""

    def __init__(self, options: Options) -> None:
        config = AutoConfig.from_pretrained(options.weights)
        if getattr(config, "is_encoder_decoder", False):
            raise UnfitError("encoder-decoder models are not served")
        text = config.get_text_config()
        longest = getattr(text, "max_position_embeddings", None)
        if longest is not None and options.context > longest:
            raise UnfitError(f"context is {options.context}, and the model takes {longest} tokens")
        self._kinds, self._window = attention(text)
        self.device = torch.device("cuda" if options.cuda else "cpu")
        self.tokenizer = AutoTokenizer.from_pretrained(options.weights)
        self._model = load(AutoModelForCausalLM, options)
        self._keeps = "logits_to_keep" in inspect.signature(self._model.forward).parameters
        self._eager = self._model.config._attn_implementation == "eager"
        self.vocabulary = int(self._model.get_output_embeddings().weight.shape[0])
        self.ends = self._ends()
        self.adapters = Adapters(self._model)
        self._shape = (text.num_hidden_layers, options.parallel, options.context)
        self.cache = SlotCache(*self._shape)

    def _ends(self) -> list[int]:
        told = getattr(self._model.generation_config, "eos_token_id", None)
        ends = list(told) if isinstance(told, list | tuple) else [told]
        return [end for end in {*ends, self.tokenizer.eos_token_id} if end is not None]

    def step(
        self, first: int, tokens: Sequence[Sequence[int]], places: Sequence[int], names: list[str]
    ) -> torch.Tensor:
        """Logits behind the last token of each row, (rows, vocabulary), 32 bit, on the CPU.

        Row i holds the tokens of slot `first` + i from place `places[i]` on; all rows have as
        many. `names` are the adapters' as Adapters knows them.
        """
        ids = torch.tensor(tokens, device=self.device)
        ahead = torch.arange(ids.shape[1], device=self.device)
        positions = torch.tensor(places, device=self.device)[:, None] + ahead
        length = max(places) + ids.shape[1]
        self.cache.step = Step(first, positions, length)
        told = {"logits_to_keep": 1} if self._keeps else {}
        with torch.inference_mode(), self.adapters.chosen(names):
            out = self._model(
                input_ids=ids,
                attention_mask=self._masks(positions, length),
                position_ids=positions,
                past_key_values=self.cache,
                use_cache=True,
                **told,
            )
        return out.logits[:, -1].float().cpu()

    def move(self, source: int, target: int, length: int) -> None:
        """A request of `length` tokens takes another slot."""
        self.cache.move(source, target, length)

    def _masks(self, positions: torch.Tensor, length: int) -> Any:
        """What each token may look at; by kind of layer where a model has both."""
        masks = {kind: self._mask(kind, positions, length) for kind in self._kinds}
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _mask(self, kind: str, positions: torch.Tensor, length: int) -> torch.Tensor:
        keys = torch.arange(length, device=self.device)
        seen = keys <= positions[:, :, None]
        if kind == "sliding_attention" and self._window:
            seen &= keys > positions[:, :, None] - self._window
        seen = seen[:, None]
        if not self._eager:
            return seen
        least = torch.finfo(self._model.dtype).min
        return torch.zeros(seen.shape, dtype=self._model.dtype, device=self.device).masked_fill_(
            ~seen, least
        )

    def prove(self) -> None:
        """Raises UnfitError where the model does not compute the same in slots as alone.

        It may keep what a cache of slots does not, or read places from something else.
        """
        try:
            apart = self._apart()
        except Exception as error:
            raise UnfitError(f"it cannot be computed in a batch: {error}") from error
        if not apart < TOLERANCE.get(self._model.dtype, ROUGH):
            raise UnfitError(f"it does not compute the same in a batch (off by {apart:.1%})")

    def _apart(self) -> float:
        """By how much the logits of some tokens differ, as a share of the largest."""
        ids = [(7 * at + 3) % self.vocabulary for at in range(PROBE)]
        with torch.inference_mode():
            alone = self._model(torch.tensor([ids], device=self.device), use_cache=False).logits
        expected = alone[0].float().cpu()
        slots = min(2, self._shape[1])
        half = PROBE // 2
        for slot in range(slots):
            self.step(slot, [ids[: half - slot]], [0], [""])
        apart = [0.0]
        for at in range(half, PROBE):
            rows = [at - slot for slot in range(slots)]
            given = self.step(0, [[ids[row]] for row in rows], rows, [""] * slots)
            apart += [
                float((logits - expected[row]).abs().max() / expected[row].abs().max())
                for logits, row in zip(given, rows, strict=True)
            ]
        return math.inf if any(map(math.isnan, apart)) else max(apart)

    def sleep(self) -> None:
        """Weights to host memory, the cache dropped."""
        self.cache.clear()
        self._model.to("cpu")
        torch.cuda.empty_cache()

    def wake(self) -> None:
        self._model.to(self.device)


def load(kind: Any, options: Options) -> Any:
    """A model of one of transformers' auto classes, for inference, on its device."""
    dtype = options.dtype
    if dtype == "auto" and not options.cuda:
        dtype = "float32"
    told: dict[str, Any] = {"dtype": dtype if dtype == "auto" else getattr(torch, dtype)}
    if options.cuda:
        told["device_map"] = "cuda"
    return kind.from_pretrained(options.weights, **told).eval()
