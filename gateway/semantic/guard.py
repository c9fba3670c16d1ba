"""Whether an answer given to one text answers another: when in doubt, it does not."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from gateway.semantic import alignment, language, lexicon, names, numerals, polarity
from gateway.semantic.reading import Reading, read

LONGEST = 2000
"""Characters of a text that is still compared; longer ones hit only when they are equal."""
CHINESE_QUESTIONS = frozenset("什哪谁何多吗")
ASKING = lexicon.listed("asking.txt")


class Verdict(NamedTuple):
    """`why` names the guard that refused, or what made both the same."""

    hit: bool
    why: str


def admits(asked: str, known: str) -> Verdict:
    """Whether the answer to `known` may be given to `asked`. Symmetric; never raises."""
    if asked.strip() == known.strip():
        return Verdict(bool(asked.strip()), "equal" if asked.strip() else "empty")
    if max(len(asked), len(known)) > LONGEST or "\n" in asked.strip() + known.strip():
        return Verdict(False, "long")
    first, second = read(asked), read(known)
    if first.language != second.language:
        if language.UNKNOWN not in (first.language, second.language):
            return Verdict(False, "language")
        code = first.language or second.language
        first, second = read(asked, code), read(known, code)
    return _compared(first, second)


def _compared(first: Reading, second: Reading) -> Verdict:
    if not first.sentences or not second.sentences:
        return Verdict(False, "empty or long")
    if (why := _different(first, second)) is not None:
        return Verdict(False, why)
    if len(first.sentences) != len(second.sentences):
        return Verdict(False, "sentences")
    for one, other in zip(first.sentences, second.sentences, strict=True):
        marks = {one.mark, other.mark}
        if "?" in marks and marks & {".", ""} and not _asks(one.tokens):
            return Verdict(False, "question mark")
        if not alignment.same(one, other):
            same_words = Counter(one.tokens) == Counter(other.tokens)
            return Verdict(False, "order" if same_words else "words")
    return Verdict(True, "same words" if first.plain == second.plain else "same question")


def _different(first: Reading, second: Reading) -> str | None:
    """What each guard of its own finds in the whole texts."""
    if _amounts(first) != _amounts(second):
        return "numbers"
    one, other = _all(first), _all(second)
    if polarity.signature(one) != polarity.signature(other):
        return "negation"
    kept = {*one, *other}
    name = names.differ(
        (t for t in first.written if t.key.removesuffix("'s") in kept),
        (t for t in second.written if t.key.removesuffix("'s") in kept),
    )
    return None if name is None else f"name {name}"


def _amounts(reading: Reading) -> list[str]:
    return sorted(token for token in reading.plain if numerals.has_amount(token))


def _all(reading: Reading) -> list[str]:
    return [token for sentence in reading.sentences for token in sentence.tokens]


def _asks(tokens: tuple[str, ...]) -> bool:
    """Whether the words alone show a question or a request, whatever mark ends them."""
    first = tokens[0]
    return (
        not CHINESE_QUESTIONS.isdisjoint(tokens)
        or first.isupper()
        or first in alignment.QUESTION_WORDS
        or first in alignment.AUXILIARIES
        or first in ASKING
    )
