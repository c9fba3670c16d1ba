"""The files of words beside this package."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


def lines(name: str) -> list[str]:
    """The lines of a file, without comments, which begin with ##."""
    text = files("gateway.semantic").joinpath("words", name).read_text(encoding="utf-8")
    found = (line.split("##")[0].rstrip() for line in text.splitlines())
    return [line for line in found if line]


def listed(name: str) -> frozenset[str]:
    """All words of a file."""
    return frozenset(word for line in lines(name) for word in line.split())


def groups(name: str) -> dict[str, str]:
    """Each word of a file with the first word of its line."""
    return {word: group[0] for group in map(str.split, lines(name)) for word in group}


def words(name: str) -> frozenset[str]:
    """A set of sets.txt; raises KeyError when there is none of that name."""
    return _sets()[name]


@cache
def _sets() -> dict[str, frozenset[str]]:
    found: dict[str, list[str]] = {}
    name = ""
    for line in lines("sets.txt"):
        if line.startswith(" "):
            found[name] += line.split()
        else:
            name = line.removesuffix(":")
            found[name] = []
    return {name: frozenset(members) for name, members in found.items()}
