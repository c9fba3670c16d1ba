"""A text as the guard reads it: what is asked, in words made alike, sentence by sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.semantic import language, lexicon, numerals, text, wording
from gateway.semantic.rewriting import Rules
from gateway.semantic.text import Token

BRANDS = frozenset(map(str.lower, lexicon.listed("brands.txt")))
LANGUAGES = ("en", "de", "fr", "es", "zh")
WHOLE = {code: Rules(lexicon.lines(f"{code}.whole")) for code in LANGUAGES}
SENTENCE = {code: Rules(lexicon.lines(f"{code}.rules")) for code in LANGUAGES}
EMPTY = Rules([])

SHORT = {
    "whats": "what is", "hows": "how is", "wheres": "where is", "whos": "who is",
    "dont": "do not", "doesnt": "does not", "didnt": "did not", "cant": "can not",
    "cannot": "can not", "isnt": "is not", "arent": "are not", "wasnt": "was not",
    "couldnt": "could not", "shouldnt": "should not", "wouldnt": "would not",
    "wont": "will not", "won't": "will not", "can't": "can not", "shan't": "shall not",
    "im": "i am", "ive": "i have", "let's": "let us", "wanna": "want to", "gonna": "going to",
    "i'd": "i would",
}  # fmt: skip
ENDINGS = {"n't": "not", "'re": "are", "'m": "am", "'ve": "have", "'ll": "will"}
IS_AFTER = lexicon.words("is_after")
UNITED_STATES = frozenset(("US", "USA", "U.S", "U.S.A"))
JOINED = [word for word in (*wording.SYNONYMS, *wording.ALIASES) if "-" in word]
PHRASES = sorted((tuple(word.split("-")) for word in JOINED), key=len, reverse=True)
PHRASE_STARTS = frozenset(phrase[0] for phrase in PHRASES)
WORKED_ON = lexicon.words("worked_on")
ANNOUNCED = lexicon.words("announced")
POINTING = lexicon.words("pointing")
TIMES = lexicon.words("times")
NOT_SPLIT = re.compile(r"[ldjmtscn]'(.+)|qu'(.+)")


SURE = "*"
"""In place of the mark of a sentence whose words alone show what is wanted."""
MOST_TOKENS = 120
"""Of a longer text nothing is read."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """`tokens` without the mark that ended it; `mark` is one of `?`, `.`, SURE and nothing.

    `direct` tells that nothing stood before the question, as `can you tell me` would.
    """

    tokens: tuple[str, ...]
    mark: str
    direct: bool


@dataclass(frozen=True, slots=True)
class Reading:
    language: str
    written: tuple[Token, ...]
    plain: tuple[str, ...]
    """Keys with numbers made alike, before any rule; for comparing as they stand."""
    sentences: tuple[Sentence, ...]


def read(words: str, language_code: str | None = None) -> Reading:
    """`language_code` overrules what the text looks like."""
    cleaned = text.clean(words)
    code = language.language_of(cleaned) if language_code is None else language_code
    written = text.tokens(cleaned, BRANDS)
    head = _before_given(written)
    given = [text.VERBATIM + token.written for token in written[head:]]
    plain = numerals.numbered(_spelled_out(written[:head], code), code)
    if code == "en":
        plain = _phrases(plain)
    if len(plain) + len(given) > MOST_TOKENS:
        return Reading(code, (), (), ())
    named = not wording.SAID.isdisjoint(plain) or (
        not wording.ABOUT_WORDS.isdisjoint(plain) and not POINTING.isdisjoint(plain)
    )
    whole = plain if named else WHOLE.get(code, EMPTY).rewrite(plain)
    rules = SENTENCE.get(code, EMPTY)
    sentences = [_sentence(rules, tokens, mark) for tokens, mark in _sentences(whole)]
    if given:
        sentences.append(Sentence(tuple(given), "", True))
    return Reading(code, tuple(written), (*plain, *given), tuple(sentences))


def _before_given(written: list[Token]) -> int:
    """How many tokens stand before a text that is to be worked on, of which each letter counts.

    It begins behind a colon, as in `Rewrite: …`, or behind `Shorten the following text.`
    """
    before: set[str] = set()
    for place, token in enumerate(written[:-1], 1):
        if token.key == ":" and before & WORKED_ON:
            return place
        if token.key in text.ENDS and before & ANNOUNCED:
            return place
        before.add(token.key)
    return len(written)


def _sentence(rules: Rules, tokens: list[str], mark: str) -> Sentence:
    """A rule that changed the first word left no doubt about what is asked."""
    made = rules.rewrite(tokens)
    direct = made[0] == tokens[0]
    return Sentence(tuple(made), mark if direct else SURE, direct)


def _spelled_out(written: list[Token], code: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for token in written:
        if token.written in UNITED_STATES:
            pairs.append(("=USA", token.written))
        elif code == "en":
            pairs += ((key, token.written) for key in _long_form(token.key))
        elif code == "fr" and (match := NOT_SPLIT.fullmatch(token.key)) is not None:
            rest = match[1] or match[2]
            pairs += ((token.key[: -len(rest)], token.written), (rest, token.written))
        else:
            pairs.append((token.key, token.written))
    return pairs


def _long_form(key: str) -> list[str]:
    if key in SHORT:
        return SHORT[key].split()
    if "'" not in key or key.startswith(text.VERBATIM):
        return [key]
    for ending, word in ENDINGS.items():
        if key.endswith(ending) and len(key) > len(ending):
            return [key.removesuffix(ending), word]
    head = key.removesuffix("'s")
    if head != key and head:
        return [head, "is" if head in IS_AFTER else "'s"]
    return [key]


def _phrases(tokens: list[str]) -> list[str]:
    """Several tokens that are one name or adverb, joined."""
    found: list[str] = []
    place = 0
    about_words = not wording.ABOUT_WORDS.isdisjoint(tokens)
    while place < len(tokens):
        length = 1
        if tokens[place] in PHRASE_STARTS:
            for phrase in PHRASES:
                if tuple(tokens[place : place + len(phrase)]) == phrase:
                    length = len(phrase)
                    break
        token = "-".join(tokens[place : place + length])
        found.append(token if about_words else wording.ALIASES.get(token, token))
        place += length
    return ["a" if _rate(found, place) else token for place, token in enumerate(found)]


def _rate(tokens: list[str], place: int) -> bool:
    """`per` in `per day`."""
    return (
        tokens[place] == "per"
        and tokens[place + 1 : place + 2] != []
        and (tokens[place + 1] in TIMES)
    )


def _sentences(tokens: list[str]) -> list[tuple[list[str], str]]:
    """Tokens and the mark that ended them; an Oxford comma and Spanish marks say nothing."""
    found: list[tuple[list[str], str]] = []
    now: list[str] = []
    for place, token in enumerate(tokens):
        if token in text.ENDS:
            if now:
                found.append((now, "?" if token == "?" else "."))
            now = []
        elif token not in "¿¡" and not (
            token == "," and tokens[place + 1 : place + 2] in (["and"], ["or"]) and "," in now
        ):
            now.append(token)
    if now:
        found.append((now, ""))
    return found
