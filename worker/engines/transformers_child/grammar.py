"""Answers held to a JSON schema by LLGuidance, where the environment has it."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import numpy as np
import torch

from worker.engines.transformers_child.refusal import Refusal

COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""Small models write spaces for ever where they may."""


class Grammars:
    """The tokenizer as LLGuidance wants it, made by the first schema: that takes about a second."""

    def __init__(self, tokenizer: Any, vocabulary: int, ends: list[int]) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._ends = ends
        self._made: Any = None

    def matcher(self, schema: dict[str, Any], answer: list[int]) -> Matcher:
        """Behind the tokens of `answer`; raises Refusal."""
        if importlib.util.find_spec("llguidance") is None:
            raise Refusal(
                "response_format needs the package llguidance beside transformers.",
                param="response_format",
            )
        import llguidance
        import llguidance.hf

        if self._made is None:
            self._made = llguidance.hf.from_tokenizer(
                self._tokenizer, n_vocab=self._vocabulary, eos_token=self._ends or None
            )
        grammar = llguidance.LLMatcher.grammar_from_json_schema(
            json.dumps(schema), overrides=COMPACT
        )
        inner = llguidance.LLMatcher(self._made, grammar, log_level=0)
        if inner.is_error():
            raise Refusal(f"JSON schema error: {inner.get_error()}")
        if answer and not inner.consume_tokens(answer):
            raise Refusal("The answer so far does not follow the schema.")
        return Matcher(inner, self._vocabulary)


class Matcher:
    """The place of one answer in its grammar."""

    def __init__(self, inner: Any, vocabulary: int) -> None:
        self._inner = inner
        self._vocabulary = vocabulary

    @property
    def over(self) -> bool:
        """Whether nothing can follow."""
        return bool(self._inner.is_stopped())

    def allowed(self) -> torch.Tensor:
        """(vocabulary,), bool."""
        bits = np.frombuffer(self._inner.compute_bitmask(), np.uint8)
        flags = np.unpackbits(bits, bitorder="little")[: self._vocabulary]
        return torch.from_numpy(np.pad(flags, (0, self._vocabulary - len(flags))).astype(bool))

    def take(self, token: int) -> None:
        self._inner.consume_token(token)
