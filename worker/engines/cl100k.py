"""Token ids of OpenAI's cl100k_base vocabulary, back into text.

LangChain and others send embeddings inputs as these ids; our models have vocabularies of their own.
"""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

RANKS = 100_256
FILE_NAME = "cl100k_base.tiktoken"


class Cl100k:
    """The 100,256 ordinary tokens. Read on first use: about 10 MB for as long as this lives."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tokens: list[bytes] = []

    def decode(self, ids: list[int]) -> str:
        """The text; broken UTF-8 becomes U+FFFD. Raises IndexError for an id out of range."""
        tokens = self._tokens or self._read()
        if ids and min(ids) < 0:
            raise IndexError(min(ids))
        return b"".join([tokens[number] for number in ids]).decode("utf-8", "replace")

    def _read(self) -> list[bytes]:
        tokens = [b""] * RANKS
        for line in self._path.read_bytes().splitlines():
            token, rank = line.split()
            tokens[int(rank)] = b64decode(token)
        self._tokens = tokens
        return tokens
