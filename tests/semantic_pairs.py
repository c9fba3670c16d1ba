"""The pairs of texts the guard of the semantic cache is measured on."""

from __future__ import annotations

from pathlib import Path

import msgspec

FOLDER = Path(__file__).parent / "data" / "semantic"


class Pair(msgspec.Struct, frozen=True):
    """`half` tells whether the rules were made with an eye on the pair."""

    category: str
    half: str
    a: str
    b: str
    language: str = "en"


def adversarial() -> list[Pair]:
    """Texts that are close and want different answers."""
    return _read("adversarial.jsonl")


def paraphrases() -> list[Pair]:
    """Texts that want the same answer."""
    return _read("paraphrases.jsonl")


def _read(name: str) -> list[Pair]:
    lines = (FOLDER / name).read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Pair) for line in lines]
