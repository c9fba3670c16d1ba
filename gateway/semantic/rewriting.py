"""Rules that turn one wording into another which asks for the same.

A rule is `pattern => result` over tokens. In a pattern `a|b` is one of several tokens, `{a b|c}`
one of several phrases, a `?` behind either makes it optional, `<x>` stands for one token or more,
`<x:3>` for at most three, and `*` for all the rest, which is at least one token. A result repeats
the holes by name, and `$1` is what the first `a|b` or `{...}` matched. `#` in
a pattern is any number. The result STOP leaves a text as it is: an exception from the rules below.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

STOP = "STOP"
ROUNDS = 12
"""Rules applied one after another to one text, at most."""
PARTS = re.compile(r"\{[^}]*\}\??|\S+")
HOLE = re.compile(r"<([a-z]+)(?::(\d+))?>")
HAN = re.compile(r"([\u3400-\u9fff])")


class Rule(NamedTuple):
    pattern: re.Pattern[str]
    result: list[str]


class Rules:
    """Kept by the words a text can begin with, so that few are tried on one."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._by_first: defaultdict[str, list[tuple[int, Rule]]] = defaultdict(list)
        self._anywhere: list[tuple[int, Rule]] = []
        for place, line in enumerate(lines):
            left, right = HAN.sub(r" \1 ", line).split("=>")
            rule = Rule(re.compile(_regex(left)), right.split())
            starts = _starts(left)
            if starts is None:
                self._anywhere.append((place, rule))
            for start in starts or ():
                self._by_first[start].append((place, rule))

    def rewrite(self, tokens: list[str]) -> list[str]:
        """The tokens after each rule that fits, the earlier lines of the file first."""
        text = _joined(tokens)
        for _ in range(ROUNDS):
            changed = self._once(text)
            if changed is None:
                break
            text = changed
        return text.split()

    def _once(self, text: str) -> str | None:
        first = text.split(" ", 1)[0]
        candidates = sorted([*self._by_first.get(first, ()), *self._anywhere], key=_place)
        for _, (pattern, result) in candidates:
            match = pattern.fullmatch(text)
            if match is not None:
                if result == [STOP]:
                    return None
                return _joined(part for piece in result for part in _filled(piece, match))
        return None


def _place(entry: tuple[int, Rule]) -> int:
    return entry[0]


def _joined(tokens: Iterable[str]) -> str:
    return "".join(token + " " for token in tokens)


def _filled(piece: str, match: re.Match[str]) -> list[str]:
    if piece == "*":
        return match["rest"].split()
    hole = HOLE.fullmatch(piece)
    if hole:
        return match[hole[1]].split()
    if piece.startswith("$"):
        return (match[f"c{piece[1:]}"] or "").split()
    return [piece]


def _regex(pattern: str) -> str:
    """Each token is matched with the space behind it."""
    choices = 0
    made = []
    for part in PARTS.findall(pattern):
        hole = HOLE.fullmatch(part)
        if part == "*":
            made.append(r"(?P<rest>(?:\S+ )+)")
        elif hole:
            most = hole[2] or "40"
            made.append(rf"(?P<{hole[1]}>(?:[^\s,.?!]\S* ){{1,{most}}}?)")
        else:
            optional = len(part) > 1 and part.endswith("?")
            body = part[:-1] if optional else part
            words = _choice(body)
            if "|" in body or body.startswith("{"):
                choices += 1
                made.append(f"(?P<c{choices}>{words})" + "?" * optional)
            else:
                made.append(f"(?:{words})" + "?" * optional)
    return "".join(made)


def _choice(body: str) -> str:
    phrases = body.strip("{}").split("|") if len(body) > 1 else [body]
    return "|".join("".join(_word(word) for word in phrase.split()) for phrase in phrases)


def _word(word: str) -> str:
    """`#` stands for any number."""
    if word == "#":
        return r"#\S+ "
    return re.escape(word) + " "


def _starts(pattern: str) -> list[str] | None:
    """The tokens that a text must begin with one of, None when any will do."""
    starts: list[str] = []
    for part in PARTS.findall(pattern):
        if part == "*" or HOLE.fullmatch(part):
            return None
        optional = len(part) > 1 and part.endswith("?")
        body = part[:-1] if optional else part
        phrases = body.strip("{}").split("|") if len(body) > 1 else [body]
        firsts = [phrase.split()[0] for phrase in phrases]
        if "#" in firsts:
            return None
        starts += firsts
        if not optional:
            return starts
    return None
