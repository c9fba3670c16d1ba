"""Words that turn a question around: negations, quantities, what may, must or can be."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gateway.semantic import lexicon

NEGATIONS = lexicon.words("negations")
WORDS = NEGATIONS | lexicon.words("quantities") | lexicon.words("modality")
PREFIXED = re.compile(r"(?:non|anti|mis|dis|un)-|-free$|-less$")


def signature(tokens: Iterable[str]) -> list[str]:
    """The words of a text that decide what is true of the rest, in their order."""
    return [token for token in tokens if token in WORDS or PREFIXED.search(token)]
