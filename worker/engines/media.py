"""Messages as a text-only model can take them. Pure."""

from __future__ import annotations

import json
from typing import Any

from shared.errors import InvalidType, InvalidValue

Message = dict[str, Any]


def flatten(messages: list[Message], *, tools: bool) -> list[Message]:
    """One string of content a message; media become short notes to the model.

    Without `tools` in the model's template, earlier calls and their results are told as text.
    """
    return [flatten_one(message, at, tools) for at, message in enumerate(messages)]


def flatten_one(message: Message, at: int, tools: bool) -> Message:
    flat = dict(message)
    if flat["role"] == "developer":
        flat["role"] = "system"
    content = flat.get("content")
    if isinstance(content, list):
        content = "\n".join(
            part_text(part, f"messages[{at}].content[{i}]") for i, part in enumerate(content)
        )
    elif content is not None and not isinstance(content, str):
        raise InvalidType(
            "content must be text or a list of parts.", param=f"messages[{at}].content"
        )
    flat["content"] = content if content is not None else ""
    if tools:
        return flat
    calls = flat.pop("tool_calls", None)
    if calls:
        told = "\n".join(call_text(call) for call in calls)
        flat["content"] = f"{flat['content']}\n{told}".strip()
    if flat["role"] in ("tool", "function"):
        flat["role"] = "user"
        flat["content"] = f"[result of the tool call]\n{flat['content']}"
    flat.pop("tool_call_id", None)
    return flat


def call_text(call: Any) -> str:
    """An earlier tool call in the words we make a model write one in."""
    function = call.get("function") or call.get("custom") or {}
    arguments = function.get("arguments") or function.get("input") or "{}"
    return f'{{"name": {json.dumps(function.get("name", ""))}, "arguments": {arguments}}}'


def part_text(part: Any, param: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("text", "refusal"):
        return str(part[kind])
    if kind in ("image_url", "video_url"):
        noun = kind.removesuffix("_url")
        return f"[{media_type(part.get(kind), noun)} attached; this model cannot see {noun}s]"
    if kind == "input_audio":
        form = (part.get(kind) or {}).get("format", "")
        name = f"audio/{form}" if form else "audio"
        return f"[{name} attached; this model cannot hear audio]"
    if kind == "file":
        name = (part.get(kind) or {}).get("filename") or "file"
        return f"[{name} attached; this model cannot read files]"
    raise InvalidValue(f"Unknown kind of content part: {kind!r}.", param=f"{param}.type")


def media_type(value: Any, noun: str) -> str:
    """`image/jpeg` from a data URL, else just `image`."""
    url = value.get("url", "") if isinstance(value, dict) else value
    if isinstance(url, str) and url.startswith("data:"):
        declared = url[5:64].split(";")[0].split(",")[0]
        if declared.startswith(f"{noun}/"):
            return declared
    return noun
