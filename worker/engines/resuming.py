"""Going on behind text that an earlier attempt generated. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def continue_behind(body: dict[str, Any], resume: str, spent: int, ids: Sequence[int] = ()) -> None:
    """Change `body` so that generation goes on behind `resume`, which took `spent` tokens.

    A chat gets it as the beginning of the assistant's message, which engines continue; a text
    prompt has it appended, a prompt of token ids has `ids` appended. What is left of max_tokens
    may be nothing or less.
    """
    messages = body.get("messages")
    if messages is not None:
        last = messages[-1]
        if last["role"] == "assistant":
            continued = last | {"content": f"{last.get('content') or ''}{resume}"}
            body["messages"] = [*messages[:-1], continued]
        else:
            body["messages"] = [*messages, {"role": "assistant", "content": resume}]
    elif isinstance(body["prompt"], list):
        body["prompt"] = [*body["prompt"], *ids]
    else:
        body["prompt"] = f"{body['prompt']}{resume}"
    for name in ("max_tokens", "max_completion_tokens"):
        if body.get(name) is not None:
            body[name] -= spent
