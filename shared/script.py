"""Lua on the server, called by its hash."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Protocol

import hiredis

from shared.resp import Argument


class LinkLike(Protocol):
    """What can carry a command: shared.resp.Link or Connection."""

    def call(self, *command: Argument) -> asyncio.Future[Any]: ...


class Script:
    """A file of shared/lua behind those it needs, called by its hash, loaded where it lacks."""

    def __init__(self, *names: str) -> None:
        folder = files("shared").joinpath("lua")
        self._text = "".join(
            folder.joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in names
        )
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    async def run(
        self, link: LinkLike, names: Sequence[Argument], values: Sequence[Argument]
    ) -> Any:
        try:
            return await link.call("EVALSHA", self._sha, len(names), *names, *values)
        except hiredis.ReplyError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        return await link.call("EVAL", self._text, len(names), *names, *values)
