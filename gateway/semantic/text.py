"""A text as tokens: words in lower case, and everything that must stay as it was written."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

VERBATIM = "="
"""Begins a token of which each letter counts: code, quotations, identifiers."""
SPACE = "\u2423"
"""Stands for white space inside a verbatim token."""

ALIKE = str.maketrans(
    {
        "\u2019": "'",
        "\u2018": "'",
        "\u02bc": "'",
        "\u00b4": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u201e": '"',
        "\u00ab": '"',
        "\u00bb": '"',
        "\u00a0": " ",
        "\u202f": " ",
        "\u200b": None,
        "\ufeff": None,
        "\u00ad": None,
        "\uff1f": "?",
        "\uff01": "!",
        "\uff0c": ",",
        "\u3002": ".",
        "\uff1a": ":",
        "\uff1b": ";",
        "\uff08": "(",
        "\uff09": ")",
    }
)
SPLIT = re.compile(
    r"```.*?```|`[^`]*`"  # code
    r'|"[^"]*"'  # quotations
    r"|(?<!\w)'[^'\s][^']{0,200}'(?!\w)"
    r"|[\u3040-\u30ff\u3400-\u9fff]"  # no spaces between words
    r"|[^\s`\"\u3040-\u30ff\u3400-\u9fff]+|\S",
    re.DOTALL,
)
WORD = re.compile(r"[^\W\d_]+(?:['\-][^\W\d_]+)*'?", re.UNICODE)
OPENING = "([{¿¡"
CLOSING = ",.;:!?)]}"
OPENED_BY = {")": "(", "]": "[", "}": "{"}
ENDS = frozenset(".?!")
MIXED = re.compile(r"[a-z][A-Z]|[A-Z]{2}[a-z]")
SMILE = re.compile(r"[:;]-?[)(DPp]")


class Token(NamedTuple):
    """`key` is what is compared, `written` how it stood, `first` whether a sentence began."""

    key: str
    written: str
    first: bool


def clean(text: str) -> str:
    return unicodedata.normalize("NFC", text).translate(ALIKE).strip()


def tokens(text: str, brands: frozenset[str]) -> list[Token]:
    """The tokens of a cleaned text, punctuation included; `brands` are names in mixed case."""
    found: list[Token] = []
    first = True
    for match in SPLIT.finditer(text):
        chunk = match.group()
        if chunk[0] in "`\"'" and len(chunk) > 2 and chunk[-1] == chunk[0]:
            found.append(Token(_verbatim(chunk[1:-1] if chunk[0] != "`" else chunk), chunk, first))
            first = False
            continue
        for part in _parts(chunk):
            key = part if part in OPENING or part in CLOSING else key_of(part, brands)
            if part == "A" and not first:
                key = _verbatim(part)
            found.append(Token(key, part, first))
            if part in ENDS or part == ":":
                first = True
            elif part not in OPENING:
                first = False
    return found


def _parts(chunk: str) -> list[str]:
    """A chunk without white space, with the punctuation around it set apart."""
    if SMILE.fullmatch(chunk):
        return [chunk]
    before: list[str] = []
    after: list[str] = []
    while len(chunk) > 1 and chunk[0] in OPENING:
        before.append(chunk[0])
        chunk = chunk[1:]
    while len(chunk) > 1 and chunk[-1] in CLOSING and not _closes(chunk):
        after.append(chunk[-1])
        chunk = chunk[:-1]
    after.reverse()
    return [*before, chunk, *_ending(after)]


def _closes(chunk: str) -> bool:
    """Whether the bracket at the end was opened within, as in `a[0]`."""
    opener = OPENED_BY.get(chunk[-1])
    return opener is not None and chunk.count(opener) >= chunk.count(chunk[-1])


def _ending(marks: list[str]) -> list[str]:
    """`?!`, `...` and `??` say no more than their first mark that ends a sentence."""
    ends = [mark for mark in marks if mark in ENDS]
    if len(ends) < 2:
        return marks
    one = "?" if "?" in ends else ends[0]
    return [mark for mark in marks if mark not in ENDS] + [one]


def key_of(written: str, brands: frozenset[str]) -> str:
    """A plain word in lower case; anything else keeps its letters and is marked verbatim."""
    lower = written.lower()
    if WORD.fullmatch(written) and (lower in brands or not MIXED.search(written)):
        return lower
    return _verbatim(written)


def _verbatim(text: str) -> str:
    return VERBATIM + re.sub(r"\s", SPACE, text)
