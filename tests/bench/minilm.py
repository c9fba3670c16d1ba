"""all-MiniLM-L6-v2 in float64 NumPy, written from the paper: what the engine must agree with."""

from __future__ import annotations

import json
import math
import struct
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.floating[Any]]
HEADS = 12
LAYERS = 6
erf = np.vectorize(math.erf, otypes=[np.float64])


class Reference:
    """`read` gives the bytes of one file of the published model by name."""

    def __init__(self, read: Callable[[str], bytes], kind: Any = np.float64) -> None:
        data = read("model.safetensors")
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        self._weights: dict[str, Matrix] = {}
        for name, entry in header.items():
            if name != "__metadata__" and entry["dtype"] == "F32":
                begin, end = (8 + length + offset for offset in entry["data_offsets"])
                flat = np.frombuffer(data[begin:end], "<f4")
                self._weights[name] = flat.reshape(entry["shape"]).astype(kind)
        words = read("vocab.txt").decode().rstrip("\n").split("\n")
        self._ids = {word: at for at, word in enumerate(words)}

    def encode(self, texts: Sequence[str]) -> Matrix:
        """One unit vector a text."""
        return np.stack([self.encode_one(self.tokens(text)) for text in texts])

    def tokens(self, text: str) -> list[int]:
        pieces = [piece for word in split(text) for piece in self._pieces(word)]
        return [self._ids[piece] for piece in ["[CLS]", *pieces, "[SEP]"]]

    def _pieces(self, word: str) -> list[str]:
        pieces: list[str] = []
        start = 0
        while start < len(word):
            mark = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((e for e in ends if mark + word[start:e] in self._ids), None)
            if end is None:
                return ["[UNK]"]
            pieces.append(mark + word[start:end])
            start = end
        return pieces

    def encode_one(self, ids: list[int]) -> Matrix:
        weights = self._weights
        x = (
            weights["embeddings.word_embeddings.weight"][ids]
            + weights["embeddings.position_embeddings.weight"][: len(ids)]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        x = self._norm(x, "embeddings.LayerNorm")
        for layer in range(LAYERS):
            at = f"encoder.layer.{layer}"
            x = self._norm(x + self._attend(x, at), f"{at}.attention.output.LayerNorm")
            inner = self._linear(x, f"{at}.intermediate.dense")
            inner = inner * 0.5 * (1 + erf(inner / math.sqrt(2))).astype(inner.dtype)
            x = self._norm(x + self._linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
        mean = x.mean(axis=0)
        return mean / np.linalg.norm(mean)

    def _attend(self, x: Matrix, at: str) -> Matrix:
        def heads(name: str) -> Matrix:
            whole = self._linear(x, f"{at}.attention.self.{name}")
            return whole.reshape(len(x), HEADS, -1).transpose(1, 0, 2)

        query, key, value = heads("query"), heads("key"), heads("value")
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ value
        return self._linear(
            mixed.transpose(1, 0, 2).reshape(len(x), -1), f"{at}.attention.output.dense"
        )

    def _linear(self, x: Matrix, at: str) -> Matrix:
        return x @ self._weights[f"{at}.weight"].T + self._weights[f"{at}.bias"]

    def _norm(self, x: Matrix, at: str) -> Matrix:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        return scaled * self._weights[f"{at}.weight"] + self._weights[f"{at}.bias"]


def split(text: str) -> list[str]:
    """Lower case without accents, cut at spaces and around punctuation."""
    plain = unicodedata.normalize("NFD", text.lower())
    words = [""]
    for letter in plain:
        kind = unicodedata.category(letter)
        if kind == "Mn":
            continue
        if kind.startswith("P") or (letter.isascii() and not letter.isalnum() and letter > " "):
            words += [letter, ""]
        elif letter.isspace():
            words.append("")
        else:
            words[-1] += letter
    return [word for word in words if word]
