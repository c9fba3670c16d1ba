"""The tools of a chat request, and which of them it may or must call."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shared.errors import InvalidValue, MissingParameter, UnsupportedValue

Name = Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]
WORDS = ("none", "auto", "required")


class FunctionTool(msgspec.Struct):
    name: Name
    description: str | None = None
    parameters: dict[str, msgspec.Raw] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct):
    """`type` may be one we do not know; such a tool is never called."""

    type: str
    function: FunctionTool | None = None


class NamedFunction(msgspec.Struct):
    name: str


class NamedTool(msgspec.Struct):
    type: str
    function: NamedFunction | None = None


def check(tools: list[Tool], choice: str | NamedTool | None) -> None:
    for index, tool in enumerate(tools):
        if tool.type == "function" and tool.function is None:
            name = f"tools[{index}].function"
            raise MissingParameter(f"Missing required parameter: '{name}'.", param=name)
    if choice is not None:
        check_choice({t.function.name for t in tools if t.function is not None}, choice)


def check_choice(names: set[str], choice: str | NamedTool) -> None:
    if isinstance(choice, str):
        if choice not in WORDS:
            raise InvalidValue(
                f"Invalid value for 'tool_choice': {choice!r}. Allowed are"
                f" {', '.join(map(repr, WORDS))} and an object naming a function.",
                param="tool_choice",
            )
        if choice == "required" and not names:
            raise InvalidValue(
                "'tool_choice' is 'required', but 'tools' has no function to call.",
                param="tool_choice",
            )
        return
    if choice.type != "function":
        raise UnsupportedValue(
            f"Tool choices of type {choice.type!r} are not supported; name a function.",
            param="tool_choice.type",
        )
    if choice.function is None:
        raise MissingParameter(
            "Missing required parameter: 'tool_choice.function'.", param="tool_choice.function"
        )
    if choice.function.name not in names:
        raise InvalidValue(
            f"'tool_choice' names the function {choice.function.name!r}, which is not in 'tools'.",
            param="tool_choice",
        )
