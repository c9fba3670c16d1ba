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
LIBRARY = """\
#!lua name={name}
{before}
redis.register_function{{
  function_name = '{name}',
  flags = {{{flags}}},
  callback = function(KEYS, ARGV)
{main}
  end
}}
"""
ONCE = "#!lua{flags}\n{before}{main}"
"""The same as a script, for a server that has no room for a function."""


class LinkLike(Protocol):
    """What can carry a command: shared.resp.Link or Connection."""

    def call(self, *command: Argument) -> asyncio.Future[Any]: ...


class Script:
    """The last of some files of shared/lua, behind those it needs: one function, loaded where it
    lacks.

    Its name says which text it is, so that a server may have those of several versions. What its
    files keep in locals stays between calls. One that `grows` is refused by a server that is full;
    the others end jobs, tidy up or write little, and are what makes room again.
    """

    def __init__(self, *names: str, grows: bool = False) -> None:
        folder = files("shared").joinpath("lua")
        *before, main = (
            folder.joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in names
        )
        parts = {"before": "".join(before), "main": main}
        asked = {**parts, "flags": "" if grows else "'allow-oom'"}
        digest = hashlib.sha256(LIBRARY.format(name="", **asked).encode()).hexdigest()[:16]
        self.name = f"{PREFIX}{names[-1]}_{digest}"
        self.text = LIBRARY.format(name=self.name, **asked)
        self._once = ONCE.format(**parts, flags="" if grows else " flags=allow-oom")

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
            if str(error).startswith("OOM"):
                # It keeps no function now; what makes room again must run all the same.
                return await link.call("EVAL", self._once, len(names), *names, *values)
            if "already exists" not in str(error):
                raise
        return await link.call("FCALL", self.name, len(names), *names, *values)
