"""A request with what its model's settings say where the caller says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LIMITS = ("max_tokens", "max_completion_tokens")
"""Two names of one thing."""


def filled(defaults: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """`body` has no nulls. A limit that the caller gives displaces both names of it."""
    if any(name in body for name in LIMITS):
        defaults = {name: value for name, value in defaults.items() if name not in LIMITS}
    return {**defaults, **body}
