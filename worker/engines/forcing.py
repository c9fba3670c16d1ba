"""Tool choice, and the schema that makes any model write a tool call. Pure."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from shared.errors import InvalidValue

Tool = dict[str, Any]
NO_ARGUMENTS: Tool = {"type": "object", "properties": {}, "additionalProperties": False}


class Forced(NamedTuple):
    """The function tools in play; `schema` is set when one of them must be called."""

    tools: list[Tool]
    schema: dict[str, Any] | None

    def note(self) -> str:
        """What the model is told, since its template may not know tools."""
        told = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in self.tools)
        return (
            "Answer with one function call, as JSON with the keys name and arguments."
            f" The functions:\n{told}"
        )


def choose(body: dict[str, Any]) -> Forced:
    """Read tools and tool_choice; raises InvalidValue. Tools other than functions are left out."""
    tools = [
        tool
        for tool in body.get("tools") or ()
        if tool.get("type") == "function" and isinstance(tool.get("function"), dict)
    ]
    choice = body.get("tool_choice", "auto")
    if isinstance(choice, dict):
        tools, choice = narrow(tools, choice)
    if choice == "none":
        return Forced([], None)
    if choice == "auto":
        return Forced(tools, None)
    if choice != "required":
        raise InvalidValue(
            "tool_choice must be none, auto, required or name a function.", param="tool_choice"
        )
    if not tools:
        raise InvalidValue(
            "tool_choice is only allowed when function tools are given.", param="tool_choice"
        )
    return Forced(tools, schema(tools))


def narrow(tools: list[Tool], choice: dict[str, Any]) -> tuple[list[Tool], str]:
    """The tools a choice object names, and the word it amounts to."""
    if choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools") or choice
        mode = str(allowed.get("mode", "auto"))
        names = [(tool.get("function") or tool).get("name") for tool in allowed.get("tools") or ()]
    else:
        mode = "required"
        names = [(choice.get("function") or choice).get("name")]
    known = {tool["function"].get("name"): tool for tool in tools}
    missing = [name for name in names if name not in known]
    if missing:
        raise InvalidValue(
            f"tool_choice names {missing[0]!r}, which is not among the tools.", param="tool_choice"
        )
    return [known[name] for name in names], mode


def schema(tools: list[Tool]) -> dict[str, Any]:
    """JSON of one call to one of `tools`. Each parameter schema keeps its own references."""
    calls: list[dict[str, Any]] = []
    definitions: dict[str, Any] = {}
    for number, tool in enumerate(tools):
        function = tool["function"]
        name = f"tool{number}"
        definitions[name] = rebase(function.get("parameters") or NO_ARGUMENTS, f"#/$defs/{name}")
        calls.append(
            {
                "type": "object",
                "properties": {
                    "name": {"const": function.get("name")},
                    "arguments": {"$ref": f"#/$defs/{name}"},
                },
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    one = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return {**one, "$defs": definitions}


def rebase(value: Any, root: str) -> Any:
    """The same schema with `#` meaning `root`."""
    if isinstance(value, list):
        return [rebase(item, root) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: root + item[1:]
        if key == "$ref" and isinstance(item, str) and item.startswith("#")
        else rebase(item, root)
        for key, item in value.items()
    }
