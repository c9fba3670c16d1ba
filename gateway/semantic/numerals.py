"""Numbers written one way: words as digits, signs and units apart from the number."""

from __future__ import annotations

import re

from gateway.semantic.text import VERBATIM

NUMBER = "#"
"""Begins a token that is a number."""

UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
UNITS += " fifteen sixteen seventeen eighteen nineteen"
SMALL = {word: value for value, word in enumerate(UNITS.split())}
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
SMALL |= {word: 20 + 10 * place for place, word in enumerate(TENS.split())}
LARGE = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
ORDINAL = {word: value for value, word in enumerate(ORDINALS.split(), 1)}
ORDINAL |= {"thirteenth": 13, "fifteenth": 15, "sixteenth": 16, "twentieth": 20}

PLAIN = re.compile(r"[+\-]?\d+(?:\.\d+)*")
GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+")
NTH = re.compile(r"(\d+)(?:st|nd|rd|th)")
GLUED = re.compile(r"([+\-]?\d+(?:\.\d+)?)(%|°C|°F|[KMGT]B|[a-z]{2})")
MONEY = re.compile(r"([$€])(\d[\d,]*(?:\.\d+)?)")
COINS = {"$": "dollars", "€": "euros"}
AFTER_NUMBER = {
    "kilometers": "km", "kilometres": "km", "kilometer": "km", "kilometre": "km",
    "centimeters": "cm", "centimetres": "cm", "centimeter": "cm", "centimetre": "cm",
    "kilograms": "kg", "kilogram": "kg", "kilos": "kg",
    "milligrams": "mg", "milliliters": "ml", "millilitres": "ml",
    "min": "minutes", "mins": "minutes", "hrs": "hours", "hr": "hour", "secs": "seconds",
    "sec": "seconds", "usd": "dollars", "eur": "euros",
    "a.m": "am", "p.m": "pm",
    "gigabytes": "=GB", "gigabyte": "=GB", "megabytes": "=MB", "megabyte": "=MB",
    "terabytes": "=TB", "terabyte": "=TB", "kilobytes": "=KB", "kilobyte": "=KB",
}  # fmt: skip
SYMBOL = 3
"""Letters of a unit's symbol at most: case tells Mg from mg."""


def is_number(token: str) -> bool:
    return token.startswith(NUMBER)


def has_amount(token: str) -> bool:
    """Whether a token names an amount, a place in a row, a version or a date."""
    return is_number(token) or any(sign.isdigit() for sign in token)


def numbered(pairs: list[tuple[str, str]], language: str) -> list[str]:
    """Keys with numbers made alike, from (key, as written) pairs."""
    found: list[str] = []
    for key, written in pairs:
        after_number = bool(found) and is_number(found[-1])
        if after_number and written.isalpha() and len(written) <= SYMBOL and not written.islower():
            found.append(VERBATIM + written)
        elif after_number and key.lstrip(VERBATIM).lower() in AFTER_NUMBER:
            found.append(AFTER_NUMBER[key.lstrip(VERBATIM).lower()])
        else:
            found += _apart(key, language)
    return _summed(found) if language == "en" else found


def _apart(key: str, language: str) -> list[str]:
    """A key as one or two tokens."""
    bare = key.removeprefix(VERBATIM)
    if PLAIN.fullmatch(bare):
        return [NUMBER + bare]
    if language != "en":
        return [key]
    if GROUPED.fullmatch(bare):
        return [NUMBER + bare.replace(",", "")]
    if (nth := NTH.fullmatch(bare)) is not None:
        return [NUMBER + nth[1] + "th"]
    if (money := MONEY.fullmatch(bare)) is not None:
        return [NUMBER + money[2].replace(",", ""), COINS[money[1]]]
    if (glued := GLUED.fullmatch(bare)) is not None and key.startswith(VERBATIM):
        unit = glued[2]
        split = {"%": "percent", "°C": "=°C", "°F": "=°F"}.get(unit)
        if split is None:
            split = unit if unit.islower() else VERBATIM + unit
        return [NUMBER + glued[1], AFTER_NUMBER.get(split, split)]
    return [_in_digits(key)]


def _in_digits(word: str) -> str:
    if word in SMALL:
        return f"{NUMBER}{SMALL[word]}"
    if word in LARGE:
        return f"{NUMBER}{LARGE[word]}"
    if word in ORDINAL:
        return f"{NUMBER}{ORDINAL[word]}th"
    head, dash, tail = word.partition("-")
    if dash and head in SMALL and tail in SMALL and SMALL[head] >= 20 > SMALL[tail]:
        return f"{NUMBER}{SMALL[head] + SMALL[tail]}"
    if dash and head in SMALL and tail in ORDINAL and SMALL[head] >= 20:
        return f"{NUMBER}{SMALL[head] + ORDINAL[tail]}th"
    if dash and head in SMALL and tail.isalpha():
        return f"{VERBATIM}{SMALL[head]}-{tail}"
    return word


def _summed(tokens: list[str]) -> list[str]:
    """`#5 #1000000` as one number, and `per cent` as one word."""
    found: list[str] = []
    for token in tokens:
        if token == "cent" and found and found[-1] == "per":
            found[-1] = "percent"
        elif token in ("#1000000", "#1000000000") and found and found[-1][1:].isdigit():
            found[-1] = f"{NUMBER}{int(found[-1][1:]) * int(token[1:])}"
        else:
            found.append(token)
    return found
