"""Which words count as the same: tables of synonyms and spellings, forms of a verb, articles."""

from __future__ import annotations

import re

from gateway.semantic import lexicon

SYNONYMS = lexicon.groups("synonyms.txt") | lexicon.groups("spelling.txt")
VERBS = lexicon.groups("verbs.txt")
ALIASES = lexicon.groups("aliases.txt")
ABOUT_WORDS = lexicon.words("about_words")
"""Of a text with one of these, the words themselves may be what is asked about."""

SAID = lexicon.words("said")
"""Of a text with one of these, a greeting may be what is asked about."""

FIXED = lexicon.words("fixed")
"""Nouns and quantities that mean something else with an article than without."""

BEFORE_VERBS = lexicon.words("before_verbs")
NOT_AS_NAMES = lexicon.words("not_as_names")
"""Nouns before which a word is part of a term, so that no synonym can stand for it."""

VOWELS = "aeiou"
DOUBLED = lexicon.words("doubled")
SINGLE = lexicon.words("single")
IRREGULAR_PAST = dict(pair.split(":") for pair in lexicon.words("irregular_past"))


def is_gerund(base: str, gerund: str) -> bool:
    """`set`, `setting`; a consonant is doubled where English doubles it."""
    if not gerund.endswith("ing"):
        return False
    stem = gerund[:-3]
    if base in DOUBLED or (_one_short_vowel(base) and base not in SINGLE):
        return stem == base + base[-1]
    if base.endswith("ie"):
        return stem == base[:-2] + "y"
    if base.endswith("e") and not base.endswith(("ee", "oe", "ye")):
        return stem == base[:-1]
    return stem == base


def is_third_person(base: str, form: str) -> bool:
    if base in ("have", "be"):
        return (base, form) == ("have", "has")
    if base.endswith(("s", "x", "z", "ch", "sh", "o")):
        return form == base + "es"
    if base.endswith("y") and base[-2:-1] not in VOWELS:
        return form == base[:-1] + "ies"
    return form == base + "s"


def is_past(base: str, form: str) -> bool:
    if base in IRREGULAR_PAST:
        return form == IRREGULAR_PAST[base]
    if base.endswith("e"):
        return form == base + "d"
    if base.endswith("y") and base[-2:-1] not in VOWELS:
        return form == base[:-1] + "ied"
    if base in DOUBLED or _one_short_vowel(base):
        return form == base + base[-1] + "ed"
    return form == base + "ed"


def _one_short_vowel(base: str) -> bool:
    """A single syllable that ends in one vowel and one consonant."""
    return re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", base) is not None and len(base) > 2
