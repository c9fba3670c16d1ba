"""One line of a training file: a chat as OpenAI has it, or two answers to choose from. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from trainer.plan import Method
from trainer.tools import Fault as Fault
from trainer.tools import ToolCall as ToolCall
from trainer.tools import Unusable as Unusable
from trainer.tools import read_call_id, read_calls, read_tools, text

Role = Literal["system", "developer", "user", "assistant", "tool"]
ROLES: frozenset[str] = frozenset(("system", "developer", "user", "assistant", "tool"))
MESSAGE_KEYS = frozenset(
    ("role", "content", "name", "weight", "tool_calls", "tool_call_id", "refusal")
)
LINE_KEYS: dict[Method, frozenset[str]] = {
    "supervised": frozenset(("messages", "tools", "parallel_tool_calls")),
    "dpo": frozenset(("input", "preferred_output", "non_preferred_output")),
}


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    role: Role
    content: str | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    learned: bool = False
    """Whether its tokens are trained on."""


class Example(msgspec.Struct, frozen=True, omit_defaults=True):
    """`others` is empty but for preferences: there `messages` ends in the preferred answer."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    prompt: int = 0
    """Preferences: how many of the messages are the prompt."""
    others: tuple[Message, ...] = ()
    """Preferences: the answer that is not preferred."""


def read(line: bytes, method: Method) -> Example:
    """Raises Unusable."""
    told = decoded(line)
    known = LINE_KEYS[method]
    for key in told:
        if key not in known:
            raise Unusable(
                "unrecognized_key",
                f"{key!r} is not known here; known are {', '.join(sorted(known))}.",
                key,
            )
    return conversation(told) if method == "supervised" else preference(told)


def decoded(line: bytes) -> dict[str, object]:
    try:
        told: object = msgspec.json.decode(line)
    except UnicodeDecodeError as error:
        raise Unusable("not_utf8", f"The line is not UTF-8 (byte {error.start}).") from None
    except RecursionError:
        raise Unusable("not_json", "The line is nested too deeply.") from None
    except msgspec.DecodeError as error:
        raise Unusable("not_json", f"The line is not JSON: {error}.") from None
    if not isinstance(told, dict):
        raise Unusable("data_type", "The line must be a JSON object.")
    return told


def conversation(told: dict[str, object]) -> Example:
    tools = read_tools(told.get("tools"), "tools")
    messages = read_messages(told.get("messages"), "messages")
    check_calls(messages, tools, "messages")
    if not any(message.role == "assistant" for message in messages):
        raise Unusable(
            "example_missing_assistant_message",
            "The example has no message of the assistant: there is nothing to learn.",
            "messages",
        )
    if not any(message.learned for message in messages):
        raise Unusable(
            "nothing_to_learn",
            "Every message of the assistant has weight 0: there is nothing to learn.",
            "messages",
        )
    return Example(messages, tools)


def preference(told: dict[str, object]) -> Example:
    given = told.get("input")
    if not isinstance(given, dict):
        raise Unusable("missing_input", "'input' must be an object with 'messages'.", "input")
    for key in given:
        if key not in LINE_KEYS["supervised"]:
            raise Unusable("unrecognized_key", f"{key!r} is not known here.", f"input.{key}")
    tools = read_tools(given.get("tools"), "input.tools")
    prompt = read_messages(given.get("messages"), "input.messages")
    outputs = []
    for key in ("preferred_output", "non_preferred_output"):
        output = read_messages(told.get(key), key)
        for place, message in enumerate(output):
            if message.role not in ("assistant", "tool"):
                raise Unusable(
                    "unrecognized_role",
                    f"An output holds messages of the assistant and of tools, not {message.role}.",
                    f"{key}[{place}].role",
                )
        if not any(message.role == "assistant" for message in output):
            raise Unusable(
                "example_missing_assistant_message", f"{key!r} has no assistant message.", key
            )
        check_calls((*prompt, *output), tools, key, skip=len(prompt))
        outputs.append(output)
    preferred, other = outputs
    if preferred == other:
        raise Unusable(
            "same_outputs",
            "Both outputs are the same: there is nothing to prefer.",
            "non_preferred_output",
        )
    return Example((*prompt, *preferred), tools, len(prompt), other)


def read_messages(told: object, param: str) -> tuple[Message, ...]:
    if not isinstance(told, list) or not told:
        raise Unusable(
            "missing_messages_list", f"{param!r} must be a list of at least one message.", param
        )
    return tuple(read_message(each, f"{param}[{place}]") for place, each in enumerate(told))


def read_message(told: object, param: str) -> Message:
    if not isinstance(told, dict):
        raise Unusable("data_type", "A message must be an object.", param)
    for key in told:
        if key not in MESSAGE_KEYS:
            hint = " Use tool_calls instead." if key == "function_call" else ""
            raise Unusable(
                "message_unrecognized_key",
                f"{key!r} is not a key of a message.{hint}",
                f"{param}.{key}",
            )
    role = told.get("role")
    if role is None:
        raise Unusable("message_missing_key", "The message has no role.", f"{param}.role")
    if not isinstance(role, str) or role not in ROLES:
        raise Unusable(
            "unrecognized_role",
            f"The role must be one of {', '.join(sorted(ROLES))}.",
            f"{param}.role",
        )
    calls = read_calls(told.get("tool_calls"), role, f"{param}.tool_calls")
    content = read_content(told.get("content", told.get("refusal")), f"{param}.content")
    if content is None and not calls:
        raise Unusable("missing_content", "The message has no content.", f"{param}.content")
    return Message(
        role=role,  # type: ignore[arg-type]
        content=content,
        name=text(told.get("name"), f"{param}.name"),
        tool_calls=calls,
        tool_call_id=read_call_id(told.get("tool_call_id"), role, f"{param}.tool_call_id"),
        learned=read_weight(told.get("weight"), role, f"{param}.weight"),
    )


def read_content(told: object, param: str) -> str | None:
    """Parts of text are put together; raises Unusable for other parts."""
    if told is None or isinstance(told, str):
        return told
    if not isinstance(told, list):
        raise Unusable("data_type", "Content must be a text or a list of parts.", param)
    texts = []
    for place, part in enumerate(told):
        here = f"{param}[{place}]"
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise Unusable("data_type", "A part of content must be an object with a type.", here)
        if part["type"] != "text":
            raise Unusable(
                "unsupported_content",
                f"Parts of type {part['type']!r} cannot be trained on here, only text.",
                f"{here}.type",
            )
        if not isinstance(part.get("text"), str):
            raise Unusable("missing_content", "The part has no text.", f"{here}.text")
        texts.append(part["text"])
    return "".join(texts)


def read_weight(told: object, role: str, param: str) -> bool:
    if told is None:
        return role == "assistant"
    if isinstance(told, bool) or told not in (0, 1):
        raise Unusable("invalid_weight", "A weight is 0 or 1.", param)
    if role != "assistant":
        raise Unusable("invalid_weight", "Only messages of the assistant have a weight.", param)
    return told == 1


def check_calls(
    messages: tuple[Message, ...], tools: tuple[dict[str, Any], ...], param: str, skip: int = 0
) -> None:
    """Calls are of known tools, answers are to calls; the first `skip` messages are context."""
    known = {tool["function"]["name"] for tool in tools}
    called: set[str] = set()
    for place, message in enumerate(messages):
        here = f"{param}[{place - skip}]"
        for call in message.tool_calls:
            if tools and call.name not in known:
                raise Unusable(
                    "unknown_tool", f"No tool is named {call.name!r}.", f"{here}.tool_calls"
                )
            called.add(call.id)
        if message.tool_call_id is not None and message.tool_call_id not in called:
            raise Unusable(
                "tool_without_call",
                f"Nothing before calls {message.tool_call_id!r}.",
                f"{here}.tool_call_id",
            )


def answers(example: Example) -> Iterator[tuple[int, Message]]:
    """The messages that are learned, with their places."""
    for place, message in enumerate(example.messages):
        if message.learned and place >= example.prompt:
            yield place, message
