"""Capital letters: whether a word names the same in both texts."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.semantic import lexicon, wording
from gateway.semantic.reading import BRANDS
from gateway.semantic.text import Token

TOOLS = lexicon.words("tools")
TECHNICAL = lexicon.words("technical")
"""Words beside which a tool's name is that, however it is written."""
CAPITONYMS = lexicon.listed("capitonyms.txt")
LOWER, CAPITAL, UPPER, SILENT = "lower", "Capital", "UPPER", ""
TITLED = 0.8
"""Share of words with a capital from which on capitals tell nothing."""


def case_of(written: str) -> str:
    if written.islower():
        return LOWER
    if len(written) > 1 and written.isupper():
        return UPPER
    return CAPITAL


def cases(tokens: Iterable[Token]) -> dict[str, set[str]]:
    """What the writing of each word tells, SILENT where place or habit hides it."""
    words = [token for token in tokens if token.written[:1].isalpha() and token.key[:1] != "="]
    capitals = sum(case_of(token.written) != LOWER for token in words)
    lower_only = not any(case_of(token.written) != LOWER for token in words)
    hidden = lower_only or (len(words) > 2 and capitals >= TITLED * len(words))
    found: dict[str, set[str]] = {}
    for token in words:
        told = case_of(token.written)
        if hidden or (token.first and told == CAPITAL):
            told = SILENT
        for key in {token.key, token.key.removesuffix("'s")}:
            found.setdefault(key, set()).add(told)
    return found


def differ(asked: Iterable[Token], known: Iterable[Token]) -> str | None:
    """The first word that one text writes as a name and the other does not."""
    first, second = tuple(asked), tuple(known)
    told, other = cases(first), cases(second)
    both = sorted((*second, *first), key=lambda token: case_of(token.written) != LOWER)
    written = {token.key: token.written for token in both}
    sides = (first, second)
    for side, there in ((first, other), (second, told)):
        if (name := _synonym_as_name(t for t in side if t.key not in there)) is not None:
            return name
    technical = TECHNICAL & told.keys() & other.keys()
    for key in told.keys() & other.keys():
        ways = [
            {
                case_of(token.written)
                for token in side
                if token.key.removesuffix("'s") == key.removesuffix("'s")
            }
            for side in sides
        ]
        if (
            ways[0] == ways[1]
            and len(ways[0]) == 1
            and (told[key] == other[key] or LOWER in ways[0])
        ):
            continue
        if technical - {key} and key in TOOLS:
            continue
        if key in CAPITONYMS and not _function_word_at_start(key, told, other):
            return written.get(key, key)
        if ways[0] != ways[1] and UPPER in ways[0] | ways[1] and key not in BRANDS:
            return written.get(key, key)
        plain = (told[key] | other[key]) - {SILENT}
        if len(plain) > 1 and key not in BRANDS:
            return written.get(key, key)
    return None


def _synonym_as_name(side: Iterable[Token]) -> str | None:
    """A word with a capital, such as `Cars`, that the tables would take for another."""
    for token in side:
        group = wording.SYNONYMS.get(token.key) or wording.VERBS.get(token.key)
        if group is None or group in BRANDS or token.first:
            continue
        if case_of(token.written) != LOWER:
            return token.key
    return None


def _function_word_at_start(
    key: str, told: dict[str, set[str]], other: dict[str, set[str]]
) -> bool:
    """`Who`, `It` and the like: only capitals throughout make a name of them."""
    return key in FUNCTION_WORDS and UPPER not in told[key] | other[key]


FUNCTION_WORDS = lexicon.words("function_words")
