"""Tools in a line of a training file: what may be called, and the calls of its messages. Pure."""

from __future__ import annotations

from typing import Any

import msgspec


class ToolCall(msgspec.Struct, frozen=True):
    id: str
    name: str
    arguments: str
    """JSON of an object."""


class Fault(msgspec.Struct, frozen=True):
    """Why a line cannot be trained on; `param` is the path to it inside the line."""

    code: str
    message: str
    param: str | None = None


class Unusable(Exception):
    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.fault = Fault(code, message, param)


def read_calls(told: object, role: str, param: str) -> tuple[ToolCall, ...]:
    if told is None:
        return ()
    if role != "assistant" or not isinstance(told, list) or not told:
        raise Unusable(
            "invalid_tool_calls", "Only the assistant calls tools, in a list of calls.", param
        )
    calls = []
    for place, each in enumerate(told):
        here = f"{param}[{place}]"
        function = each.get("function") if isinstance(each, dict) else None
        if not isinstance(each, dict) or not isinstance(function, dict):
            raise Unusable("invalid_tool_calls", "A call is {id, type, function}.", here)
        name, arguments = function.get("name"), function.get("arguments")
        if not isinstance(name, str) or not isinstance(arguments, str):
            raise Unusable(
                "invalid_tool_calls", "A function has a name and its arguments as JSON text.", here
            )
        try:
            value: object = msgspec.json.decode(arguments)
        except (msgspec.DecodeError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise Unusable(
                "invalid_tool_calls",
                "The arguments are not the JSON of an object.",
                f"{here}.function.arguments",
            )
        calls.append(ToolCall(text(each.get("id"), f"{here}.id") or "", name, arguments))
    return tuple(calls)


def read_call_id(told: object, role: str, param: str) -> str | None:
    if (told is not None) != (role == "tool"):
        raise Unusable(
            "invalid_tool_call_id",
            "A message of a tool, and no other, names the call it answers in tool_call_id.",
            param,
        )
    return text(told, param)


def read_tools(told: object, param: str) -> tuple[dict[str, Any], ...]:
    if told is None:
        return ()
    if not isinstance(told, list):
        raise Unusable("invalid_tools", "Tools are a list.", param)
    names = set()
    for place, tool in enumerate(told):
        function = tool.get("function") if isinstance(tool, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or tool.get("type", "function") != "function":
            raise Unusable(
                "invalid_tools",
                "A tool is {type: function, function: {name, parameters}}.",
                f"{param}[{place}]",
            )
        if name in names:
            raise Unusable("invalid_tools", f"Two tools are named {name!r}.", f"{param}[{place}]")
        names.add(name)
    return tuple(told)


def text(told: object, param: str) -> str | None:
    if told is not None and not isinstance(told, str):
        raise Unusable("data_type", "This must be a text.", param)
    return told
