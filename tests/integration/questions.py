"""Questions and made-up embeddings for a semantic cache."""

from __future__ import annotations

import hashlib
from math import cos, sin

from shared.store.semantic import Question
from shared.wire.account import SemanticCache as Chosen

PROJECT = "proj_default"
ON = Chosen(enabled=True)


def ask(text: str, scope: str = "s", project: str = PROJECT, model: str = "m") -> Question:
    digest = hashlib.sha256(text.encode()).digest()
    return Question(project, hashlib.sha256(scope.encode()).digest(), text, digest, model)


def at(angle: float) -> list[float]:
    """A unit vector; the cosine of two is that of the difference of their angles."""
    return [cos(angle), sin(angle), 0.0]
