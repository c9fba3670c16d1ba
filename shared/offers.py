"""Models that a server offers by itself: a settings table whose name has a `*` stands for them.

`[models."box/*"]` serves whatever its server has, as `box/NAME`. Pure: names and entries; what a
server has is learnt by its lane's workers and told in their heartbeats.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec.structs import replace

from shared.settings import Model
from shared.settings_check import ANY
from shared.wire.node import Offered

MOST = 100
"""Models of one server that are offered."""
LATEST = ":latest"
"""Ollama's tag for a name without one."""
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:/@+-]{0,198}[A-Za-z0-9])?")
"""A server's own name for a model."""


def spell(table: str, theirs: str) -> str:
    """What callers ask for a server's model by."""
    return table.replace(ANY, theirs)


def matches(name: str, table: str) -> bool:
    """Whether a name could be one of the table's models."""
    before, _, after = table.partition(ANY)
    longer = len(name) > len(before) + len(after)
    return longer and name.startswith(before) and name.endswith(after)


def table_of(name: str, tables: Iterable[str]) -> str | None:
    """The one table a name belongs to: of those that it matches, the one that says most of it."""
    return max((t for t in tables if matches(name, t)), key=lambda t: (len(t), t), default=None)


def expand(table: str, template: Model, offered: Offered) -> Model:
    """The settings of one model of a server: the table's, less what the server knows better.

    Nothing of a server is loaded unasked; a model tagged `latest` answers without its tag, too.
    """
    plain = offered.name.removesuffix(LATEST)
    told = set(offered.capabilities) | set(template.capabilities)
    return replace(
        template,
        kind=offered.kind,
        context=min(template.context, offered.context or template.context),
        upstream_model=offered.name,
        capabilities=tuple(c for c in ("images", "audio", "tools", "code") if c in told),
        aliases=() if plain == offered.name else (spell(table, plain),),
        preload=False,
    )
