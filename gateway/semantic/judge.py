"""Whether an answer from the cache and one computed for the question itself say the same.

What this can tell: equal texts agree, and texts that differ in a yes or no, in their numbers, in
names or in how they are negated where they are short, or whose embeddings are far apart, do not.
What it cannot: two long texts with the same numbers and names that contradict each other in
passing count as agreeing, and two right answers of a creative request may count as different.
"""

from __future__ import annotations

import re
from typing import Literal

from gateway.semantic import polarity

SHORT = 40
"""Words of an answer in which each number and name is the point."""
NEAR = 0.75
"""Cosine of the embeddings of two answers from which on they are about the same."""

Outcome = Literal["same", "different"]
WORDS = re.compile(r"[^\W_]+(?:['.,:/%+-][^\W_]+)*")
NUMBERS = re.compile(r"\d+(?:[.,:/]\d+)*")
NAMES = re.compile(r"(?<![.!?:]\s)(?<!^)\b[A-Z][\w'-]+")
YES = frozenset(("yes", "yeah", "yep", "correct", "true", "ja", "oui", "sí", "si"))
NO = frozenset(("no", "nope", "not", "incorrect", "false", "nein", "non"))


def compare(served: str, computed: str, similarity: float | None) -> Outcome:
    """`similarity` is the cosine of the answers' embeddings, None when there are none."""
    one, other = words(served), words(computed)
    if one == other:
        return "same"
    if not one or not other or opening(one) != opening(other):
        return "different"
    if similarity is not None and similarity < NEAR:
        return "different"
    if min(len(one), len(other)) <= SHORT:
        return "same" if facts_agree(served, computed) else "different"
    first, second = set(NUMBERS.findall(served)), set(NUMBERS.findall(computed))
    disjoint = bool(first) and bool(second) and first.isdisjoint(second)
    return "different" if disjoint or similarity is None else "same"


def words(answer: str) -> list[str]:
    return [word.lower() for word in WORDS.findall(answer)]


def opening(answer: list[str]) -> str | None:
    """`yes` or `no` when an answer begins with it."""
    if answer[0] in YES:
        return "yes"
    return "no" if answer[0] in NO else None


def facts_agree(one: str, other: str) -> bool:
    """One answer may tell more than the other, but nothing else, and negates the same."""
    numbers = set(NUMBERS.findall(one)), set(NUMBERS.findall(other))
    names = set(NAMES.findall(one)), set(NAMES.findall(other))
    negated = [sorted(polarity.NEGATIONS & {*words(text)}) for text in (one, other)]
    return (
        within(*numbers)
        and bool(numbers[0]) == bool(numbers[1])
        and within(*names)
        and negated[0] == negated[1]
    )


def within(one: set[str], other: set[str]) -> bool:
    """Whether one of the sets is part of the other."""
    return one <= other or other <= one
