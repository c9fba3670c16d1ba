"""What the gateway refuses, and that every refusal names the field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import errors
from shared.wire.openai import chat, completion, embedding

ASK = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


def chat_body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": ASK, **fields}).encode()


def turn(**message: Any) -> dict[str, Any]:
    return {"messages": [message]}


WRONG_CHAT: list[tuple[dict[str, Any], str, type[errors.InvalidRequest]]] = [
    ({"model": 1}, "model", errors.InvalidType),
    ({"model": None}, "model", errors.InvalidType),
    ({"messages": []}, "messages", errors.InvalidValue),
    ({"messages": "hi"}, "messages", errors.InvalidType),
    (turn(content="hi"), "messages[0].role", errors.MissingParameter),
    (turn(role="robot", content="hi"), "messages[0].role", errors.InvalidValue),
    (turn(role=1, content="hi"), "messages[0].role", errors.InvalidType),
    (turn(role="user"), "messages[0].content", errors.MissingParameter),
    (turn(role="user", content=3), "messages[0].content", errors.InvalidType),
    (turn(role="user", content=[]), "messages[0].content", errors.InvalidValue),
    (
        turn(role="user", content=[{"type": "text"}]),
        "messages[0].content[0].text",
        errors.MissingParameter,
    ),
    (
        turn(role="user", content=[{"type": "smell"}]),
        "messages[0].content[0].type",
        errors.InvalidValue,
    ),
    (turn(role="assistant"), "messages[0].content", errors.MissingParameter),
    (turn(role="tool", content="4"), "messages[0].tool_call_id", errors.MissingParameter),
    ({"temperature": 2.1}, "temperature", errors.InvalidValue),
    ({"temperature": -0.1}, "temperature", errors.InvalidValue),
    ({"temperature": "hot"}, "temperature", errors.InvalidType),
    ({"top_p": 1.1}, "top_p", errors.InvalidValue),
    ({"presence_penalty": -2.5}, "presence_penalty", errors.InvalidValue),
    ({"frequency_penalty": 2.5}, "frequency_penalty", errors.InvalidValue),
    ({"n": 0}, "n", errors.InvalidValue),
    ({"n": 9}, "n", errors.InvalidValue),
    ({"n": 1.5}, "n", errors.InvalidType),
    ({"max_tokens": 0}, "max_tokens", errors.InvalidValue),
    ({"max_completion_tokens": 0}, "max_completion_tokens", errors.InvalidValue),
    ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens", errors.InvalidRequest),
    ({"stop": ["a"] * 5}, "stop", errors.InvalidValue),
    ({"stop": [1]}, "stop[0]", errors.InvalidType),
    ({"stop": ""}, "stop", errors.InvalidValue),
    ({"stop": ["a", ""]}, "stop[1]", errors.InvalidValue),
    ({"seed": 2**63}, "seed", errors.InvalidValue),
    ({"logprobs": 1}, "logprobs", errors.InvalidType),
    ({"top_logprobs": 2}, "top_logprobs", errors.InvalidValue),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", errors.InvalidValue),
    ({"logit_bias": {"5": 101}}, "logit_bias", errors.InvalidValue),
    ({"logit_bias": {"five": 1}}, "logit_bias", errors.InvalidValue),
    ({"stream": "yes"}, "stream", errors.InvalidType),
    ({"stream_options": {"include_usage": True}}, "stream_options", errors.InvalidRequest),
    ({"response_format": {"type": "yaml"}}, "response_format.type", errors.InvalidValue),
    (
        {"response_format": {"type": "json_schema"}},
        "response_format.json_schema",
        errors.MissingParameter,
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        "response_format.json_schema.schema",
        errors.MissingParameter,
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
        "response_format.json_schema.name",
        errors.MissingParameter,
    ),
    ({"tools": [{"type": "function"}]}, "tools[0].function", errors.MissingParameter),
    (
        {"tools": [{"type": "function", "function": {"name": "a b"}}]},
        "tools[0].function.name",
        errors.InvalidValue,
    ),
    ({"tool_choice": "required"}, "tool_choice", errors.InvalidValue),
    ({"tools": [TOOL], "tool_choice": "maybe"}, "tool_choice", errors.InvalidValue),
    (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "sub"}}},
        "tool_choice",
        errors.InvalidValue,
    ),
    ({"functions": [{"name": "add"}]}, "functions", errors.UnsupportedParameter),
    ({"modalities": ["text", "audio"]}, "modalities", errors.UnsupportedValue),
    ({"service_tier": "gold"}, "service_tier", errors.InvalidValue),
]


@pytest.mark.parametrize(("fields", "param", "kind"), WRONG_CHAT)
def test_a_wrong_chat_request_is_refused_by_field(
    fields: dict[str, Any], param: str, kind: type[errors.InvalidRequest]
) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        chat.decode(chat_body(**fields))
    assert (type(refused.value), refused.value.param) == (kind, param)
    assert refused.value.status == 400


@pytest.mark.parametrize("name", ["model", "messages"])
def test_a_missing_field_is_named(name: str) -> None:
    body = json.loads(chat_body())
    del body[name]
    with pytest.raises(errors.MissingParameter, match=f"'{name}'") as refused:
        chat.decode(json.dumps(body).encode())
    assert refused.value.code == "missing_required_parameter"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"model": NaN}', b"\xff", b'{"model": "\xff"}', b'{"x":' + b"[" * 100_000],
)
def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(errors.InvalidRequest, match="not valid JSON") as refused:
        chat.decode(body)
    assert refused.value.param is None


def test_null_is_absent_for_every_optional_parameter() -> None:
    optional = {
        name: None
        for name in chat.ChatRequest.__struct_fields__
        if name not in ("model", "messages")
    }
    assert chat.decode(chat_body(**optional)) == chat.decode(chat_body())


def test_unknown_fields_and_unknown_kinds_of_tools_are_let_through() -> None:
    request = chat.decode(chat_body(client_metadata={"a": 1}, tools=[TOOL, {"type": "web_search"}]))
    assert request.tools is not None
    assert [tool.type for tool in request.tools] == ["function", "web_search"]


def test_a_whole_conversation_is_accepted() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "4"},
    ]
    assert len(chat.decode(chat_body(messages=messages, tools=[TOOL])).messages) == 4


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_value_of_any_shape_breaks_the_decoder(value: Any) -> None:
    for decode in (chat.decode, completion.decode, embedding.decode):
        for body in (value, {"model": "m", "messages": value, "input": value, "prompt": value}):
            try:
                decode(json.dumps(body).encode())
            except errors.InvalidRequest as refused:
                assert refused.status == 400


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": ["a"] * 9, "n": 8}, "prompt"),
        ({"prompt": "a", "logprobs": 6}, "logprobs"),
        ({"prompt": "a", "best_of": 3}, "best_of"),
        ({"prompt": "a", "echo": True}, "echo"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
    ],
)
def test_a_wrong_completion_request_is_refused_by_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        completion.decode(json.dumps({"model": "m", **fields}).encode())
    assert refused.value.param == param


@pytest.mark.parametrize("prompt", ["a", ["a", "b"], [1, 2], [[1], [2, 3]]])
def test_every_form_of_prompt_is_accepted(prompt: Any) -> None:
    assert completion.decode(json.dumps({"model": "m", "prompt": prompt}).encode()).prompt == prompt


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input"),
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", 1]}, "input"),
        ({"input": [-1]}, "input[0]"),
        ({"input": [[]]}, "input[0]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
    ],
)
def test_a_wrong_embedding_request_is_refused_by_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        embedding.decode(json.dumps({"model": "m", **fields}).encode())
    assert refused.value.param == param


@pytest.mark.parametrize("given_input", ["a", ["a", "b"], list(range(3000)), [[1], [2, 3]]])
def test_every_form_of_input_is_accepted(given_input: Any) -> None:
    body = json.dumps({"model": "m", "input": given_input}).encode()
    assert embedding.decode(body).input == given_input
