"""One line at a time: what is taken, and what is said of the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.example import Example, Message, ToolCall, Unusable, read
from trainer.plan import Method

USER = {"role": "user", "content": "Who?"}
ANSWER = {"role": "assistant", "content": "Me."}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
CALLS = {"role": "assistant", "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "a wren"}


def line(told: object) -> bytes:
    return json.dumps(told).encode()


def chat(*messages: object, **more: object) -> bytes:
    return line({"messages": list(messages), **more})


def pair(**changes: object) -> bytes:
    told = {
        "input": {"messages": [USER]},
        "preferred_output": [ANSWER],
        "non_preferred_output": [{"role": "assistant", "content": "No."}],
    }
    return line({key: value for key, value in (told | changes).items() if value is not None})


def test_a_conversation() -> None:
    found = read(chat({"role": "system", "content": "Be short."}, USER, ANSWER), "supervised")
    assert [message.role for message in found.messages] == ["system", "user", "assistant"]
    assert [message.learned for message in found.messages] == [False, False, True]


def test_an_answer_of_weight_0_is_context() -> None:
    first = ANSWER | {"weight": 0}
    found = read(chat(USER, first, USER, ANSWER | {"weight": 1}), "supervised")
    assert [message.learned for message in found.messages] == [False, False, False, True]


def test_tools_are_called_and_answer() -> None:
    found = read(chat(USER, CALLS, RESULT, ANSWER, tools=[TOOL]), "supervised")
    assert found.messages[1] == Message(
        "assistant", tool_calls=(ToolCall("c1", "look", '{"at": 1}'),), learned=True
    )
    assert found.tools == (TOOL,)


def test_parts_of_text_are_one_text() -> None:
    parts = [{"type": "text", "text": "Who "}, {"type": "text", "text": "else?"}]
    found = read(chat(USER | {"content": parts}, ANSWER), "supervised")
    assert found.messages[0].content == "Who else?"


def test_a_preference() -> None:
    found = read(pair(), "dpo")
    assert found == Example(
        (Message("user", "Who?"), Message("assistant", "Me.", learned=True)),
        prompt=1,
        others=(Message("assistant", "No.", learned=True),),
    )


BAD: list[tuple[Method, bytes, str, str | None]] = [
    ("supervised", b"{", "not_json", None),
    ("supervised", b'{"messages": NaN}', "not_json", None),
    ("supervised", b'{"messages": "\xff"}', "not_utf8", None),
    ("supervised", b"[" * 5000, "not_json", None),
    ("supervised", b"[]", "data_type", None),
    ("supervised", line({}), "missing_messages_list", "messages"),
    ("supervised", line({"messages": []}), "missing_messages_list", "messages"),
    ("supervised", line({"prompt": "a", "completion": "b"}), "unrecognized_key", "prompt"),
    ("supervised", chat("hello"), "data_type", "messages[0]"),
    ("supervised", chat({"content": "a"}), "message_missing_key", "messages[0].role"),
    ("supervised", chat({"role": "human"}), "unrecognized_role", "messages[0].role"),
    ("supervised", chat({"role": ["user"]}), "unrecognized_role", "messages[0].role"),
    ("supervised", chat(USER | {"text": "a"}), "message_unrecognized_key", "messages[0].text"),
    ("supervised", chat({"role": "user"}), "missing_content", "messages[0].content"),
    ("supervised", chat(USER | {"content": 3}), "data_type", "messages[0].content"),
    (
        "supervised",
        chat(USER | {"content": [{"type": "image_url", "image_url": {"url": "a"}}]}),
        "unsupported_content",
        "messages[0].content[0].type",
    ),
    ("supervised", chat(USER), "example_missing_assistant_message", "messages"),
    ("supervised", chat(USER, ANSWER | {"weight": 0}), "nothing_to_learn", "messages"),
    ("supervised", chat(USER, ANSWER | {"weight": 2}), "invalid_weight", "messages[1].weight"),
    ("supervised", chat(USER, ANSWER | {"weight": True}), "invalid_weight", "messages[1].weight"),
    ("supervised", chat(USER | {"weight": 1}, ANSWER), "invalid_weight", "messages[0].weight"),
    ("supervised", chat(USER, RESULT, ANSWER), "tool_without_call", "messages[1].tool_call_id"),
    (
        "supervised",
        chat(USER, CALLS, RESULT, ANSWER, tools=[]).replace(b'"look"', b"1"),
        "invalid_tool_calls",
        "messages[1].tool_calls[0]",
    ),
    (
        "supervised",
        chat(USER, CALLS, tools=[{"type": "function", "function": {"name": "hear"}}]),
        "unknown_tool",
        "messages[1].tool_calls",
    ),
    ("supervised", chat(USER, ANSWER, tools=[TOOL, TOOL]), "invalid_tools", "tools[1]"),
    ("supervised", chat(USER, ANSWER, tools={"a": 1}), "invalid_tools", "tools"),
    (
        "supervised",
        chat(USER, {"role": "tool", "content": "a"}, ANSWER),
        "invalid_tool_call_id",
        "messages[1].tool_call_id",
    ),
    (
        "supervised",
        chat(USER, {"role": "assistant", "function_call": {}}),
        "message_unrecognized_key",
        "messages[1].function_call",
    ),
    ("dpo", pair(input=None), "missing_input", "input"),
    ("dpo", pair(input={"messages": []}), "missing_messages_list", "input.messages"),
    ("dpo", pair(preferred_output=None), "missing_messages_list", "preferred_output"),
    ("dpo", pair(preferred_output=[USER]), "unrecognized_role", "preferred_output[0].role"),
    ("dpo", pair(non_preferred_output=[ANSWER]), "same_outputs", "non_preferred_output"),
    ("dpo", pair(messages=[USER]), "unrecognized_key", "messages"),
    (
        "dpo",
        pair(preferred_output=[RESULT]),
        "example_missing_assistant_message",
        "preferred_output",
    ),
]


@pytest.mark.parametrize(("method", "told", "code", "param"), BAD)
def test_what_is_said_of_a_bad_line(
    method: Method, told: bytes, code: str, param: str | None
) -> None:
    with pytest.raises(Unusable) as raised:
        read(told, method)
    assert (raised.value.fault.code, raised.value.fault.param) == (code, param)
    assert raised.value.fault.message.endswith((".", "'"))


ANYTHING: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)
KEYS = ("role", "content", "weight", "tool_calls", "tool_call_id", "name", "refusal")
ROLE = st.sampled_from(("user", "assistant", "tool", "system", "x"))


@given(
    st.lists(
        st.dictionaries(st.sampled_from(KEYS), ANYTHING | ROLE, max_size=5) | ANYTHING, max_size=4
    ),
    ANYTHING,
)
def test_any_line_is_read_or_refused_with_a_reason(messages: list[object], tools: object) -> None:
    for method in ("supervised", "dpo"):
        told = {"messages": messages, "tools": tools}
        if method == "dpo":
            told = {"input": told, "preferred_output": messages, "non_preferred_output": tools}
        try:
            found = read(line(told), method)  # type: ignore[arg-type]
        except Unusable as error:
            assert error.fault.code
        else:
            assert any(message.learned for message in found.messages)
