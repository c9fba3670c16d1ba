"""Which language a text is in, by its script and its function words."""

from __future__ import annotations

import re
import unicodedata

from gateway.semantic import lexicon

UNKNOWN = ""
"""Latin letters without a function word that tells."""

LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "nl")
VOCABULARY = {code: lexicon.words(f"language_{code}") for code in LANGUAGES}
WORDS = re.compile(r"[^\W\d_]+")
KANA = re.compile(r"[\u3040-\u30ff]")
HAN = re.compile(r"[\u3400-\u9fff]")
LETTERS_LOOKED_AT = 200


def language_of(text: str) -> str:
    """An ISO 639-1 code, the name of a script that is not Latin, or UNKNOWN."""
    if KANA.search(text):
        return "ja"
    if HAN.search(text):
        return "zh"
    script = _script(text)
    if script != "LATIN":
        return script
    words = WORDS.findall(text.lower())
    scores = {code: sum(word in known for word in words) for code, known in VOCABULARY.items()}
    best = max(scores.values(), default=0)
    first = [code for code, score in scores.items() if score == best]
    return first[0] if best and len(first) == 1 else _tie(first) if best else UNKNOWN


def _tie(codes: list[str]) -> str:
    """English when its words are among the most: names and terms come from there."""
    return "en" if "en" in codes else UNKNOWN


def _script(text: str) -> str:
    """The script of the first letters that are not Latin, such as CYRILLIC."""
    for letter in text[:LETTERS_LOOKED_AT]:
        if letter.isalpha() and not letter.isascii():
            script = unicodedata.name(letter, "?").split()[0]
            if script not in ("LATIN", "MICRO", "ORDINAL", "FEMININE", "MASCULINE"):
                return script
    return "LATIN"
