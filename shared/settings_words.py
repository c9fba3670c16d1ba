"""What is wrong with a setting, in a reader's words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, Literal, get_args

import msgspec


def located(message: str) -> tuple[str, str]:
    """msgspec's reason, and the first key of its path."""
    reason, _, where = message.partition(" - at ")
    return reason, re.split(r"[.\[]", where.strip("`").removeprefix("$").removeprefix("."))[0]


def nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    meant = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {meant[0]}?" if meant else ""
    return f"{hint} Known: {', '.join(names)}"


def allowed(struct: type[msgspec.Struct], key: str) -> str:
    kind = next((f.type for f in msgspec.structs.fields(struct) if f.name == key), None)
    return f" Allowed: {describe(kind)}."


def describe(kind: Any) -> str:
    """A type in a reader's words."""
    if getattr(kind, "__origin__", None) is Literal:
        return ", ".join(kind.__args__)
    words = {
        int: "a whole number",
        float: "a number",
        tuple[str, ...]: "a list of texts",
        dict[str, float | int]: "a table of numbers",
    }
    chosen = next((part for part in (kind, *get_args(kind)) if part in words), str)
    return words.get(chosen, "text")
