"""`aihub config`: the settings in force as TOML, with the source of each."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from shared.redact import redact
from shared.settings import PREFIX, Settings, find_file, read_file


def main(settings: Settings, options: argparse.Namespace) -> int:
    path = find_file(os.environ, Path.cwd())
    print("\n".join(describe(settings, path, os.environ)))
    return 0


def describe(settings: Settings, path: Path | None, environ: Mapping[str, str]) -> Iterator[str]:
    """Lines of TOML. A key without a value is a comment that says what happens then."""
    given = read_file(path) if path else {}
    yield f"# file: {path or 'none'}"
    values = msgspec.to_builtins(settings)
    models = values.pop("models")
    for key, value in values.items():
        variable = PREFIX + key.upper()
        source = "default"
        if key in given:
            source = str(path)
        if environ.get(variable, "") != "":
            source = variable
        if value is None:
            yield f"# {key} is not set"
        else:
            yield f"{key} = {toml(redact(key, value))}  # {source}"
    source = str(path) if given.get("models") else "default"
    for name, model in models.items():
        yield ""
        yield f"[models.{toml_key(name)}]  # {source}"
        for key, value in model.items():
            if value is not None and value != {} and value != []:
                yield f"{key} = {toml(redact(key, value))}"


def toml(value: Any) -> str:
    """A TOML value of a setting: text, number, boolean, list or flat table."""
    if isinstance(value, dict):
        inside = ", ".join(f"{toml_key(key)} = {toml(item)}" for key, item in value.items())
        return f"{{ {inside} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_key(key: str) -> str:
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if bare else toml(key)
