"""Lua that the server keeps, called by its name."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Protocol

import hiredis

from shared.resp import Argument

PREFIX = "aihub_"
"""Of all libraries of ours."""


class LinkLike(Protocol):
    """What can carry a command: shared.resp.Link or Connection."""

    def call(self, *command: Argument) -> asyncio.Future[Any]: ...


class Script:
    """The last of some files of shared/lua, behind those it needs: one function, loaded where it
    lacks.

    Its name says which text it is, so that processes of several versions share a server. What it
    calls is compiled once, not with every call, and what its files keep in locals stays.
    """

    def __init__(self, *names: str) -> None:
        folder = files("shared").joinpath("lua")
        *before, main = (
            folder.joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in names
        )
        text = "".join(before)
        digest = hashlib.sha256(f"{text}\0{main}".encode()).hexdigest()[:16]
        self.name = f"{PREFIX}{names[-1]}_{digest}"
        self.text = (
            f"#!lua name={self.name}\n{text}"
            f"redis.register_function('{self.name}', function(KEYS, ARGV)\n{main}\nend)\n"
        )

    async def run(
        self, link: LinkLike, names: Sequence[Argument], values: Sequence[Argument]
    ) -> Any:
        try:
            return await link.call("FCALL", self.name, len(names), *names, *values)
        except hiredis.ReplyError as error:
            if "Function not found" not in str(error):
                raise
        try:
            await link.call("FUNCTION", "LOAD", self.text)
        except hiredis.ReplyError as error:
            if "already exists" not in str(error):
                raise
        return await link.call("FCALL", self.name, len(names), *names, *values)
