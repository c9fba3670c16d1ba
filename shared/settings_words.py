"""What is wrong with a setting, in a reader's words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, Literal, get_args

import msgspec

from shared.redact import SECRETS, redact
from shared.settings_check import PREFIX


def explain(message: str, settings: type[msgspec.Struct], values: dict[str, Any]) -> str:
    """Turn msgspec's `…- at `$.port`` into a sentence that names the key and what it allows."""
    reason, key = located(message)
    if not key:
        known = names(settings)
        unknown = next((name for name in values if name not in known), "")
        return f"{reason}.{nearest(unknown, known)}"
    given = "" if key in SECRETS else f" (given: {redact(key, values.get(key))!r})"
    return f"{key}, or {PREFIX}{key.upper()}: {reason}{given}.{allowed(settings, key)}"


def explain_model(message: str, model: type[msgspec.Struct], name: str) -> str:
    """The same for a model, whose keys no variable can set."""
    reason, key = located(message)
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", reason)
    if unknown:
        return f"models.{name}.{unknown[1]}: no such key.{nearest(unknown[1], names(model))}"
    if not key:
        return f"models.{name}: {reason}. Known keys: {', '.join(names(model))}"
    return f"models.{name}.{key}: {reason}.{allowed(model, key)}"


def names(struct: type[msgspec.Struct]) -> tuple[str, ...]:
    """Its keys."""
    return tuple(field.name for field in msgspec.structs.fields(struct))


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
