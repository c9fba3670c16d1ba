from __future__ import annotations

from typing import Any

import pytest

from shared.errors import HubError, InvalidValue, MissingParameter, UnsupportedParameter
from worker.engines import shape
from worker.engines.forcing import choose, schema
from worker.engines.resuming import continue_behind

HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CLOCK = {"type": "function", "function": {"name": "clock"}}


def chat(tools: bool = False, **body: Any) -> shape.Shaped:
    return shape.chat({"messages": HELLO, **body}, tools=tools, context=4096)


def test_service_fields_are_dropped_and_unknown_ones_too() -> None:
    body = chat(
        store=True, metadata={}, user="u", stream=False, n=2, top_k=3, seed=1, stop=["x"], id_slot=1
    ).body
    assert body == {
        "messages": HELLO,
        "stream": True,
        "stream_options": {"include_usage": True},
        "top_k": 3,
        "seed": 1,
        "stop": ["x"],
    }


@pytest.mark.parametrize(
    ("given", "limit"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_tokens": 2**63}, 4096),
    ],
)
def test_max_tokens(given: dict[str, Any], limit: int) -> None:
    assert chat(**given).body["max_tokens"] == limit


def test_parts_become_text() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AAAA"}}
    remote = {"type": "image_url", "image_url": {"url": "http://x/y.png"}}
    audio = {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}
    parts = [{"type": "text", "text": "See"}, image, remote, audio]
    told = chat(messages=[{"role": "developer", "content": parts}]).body["messages"]
    assert told == [
        {
            "role": "system",
            "content": "See\n[image/jpeg attached; this model cannot see images]"
            "\n[image attached; this model cannot see images]"
            "\n[audio/wav attached; this model cannot hear audio]",
        }
    ]


def test_unknown_part_is_named() -> None:
    with pytest.raises(InvalidValue) as caught:
        chat(messages=[*HELLO, {"role": "user", "content": [{"type": "smell"}]}])
    assert caught.value.param == "messages[1].content[0].type"


def test_earlier_calls_are_told_to_a_model_without_tools() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "sunny"},
    ]
    plain = chat(messages=messages).body["messages"]
    assert plain[1] == {"role": "assistant", "content": '{"name": "f", "arguments": {"a":1}}'}
    assert plain[2] == {"role": "user", "content": "[result of the tool call]\nsunny"}
    native = chat(tools=True, messages=messages).body["messages"]
    assert native[1]["tool_calls"] == [call]
    assert native[2]["tool_call_id"] == "c"


def test_auto_tools_go_on_only_where_the_template_knows_them() -> None:
    assert (
        "tools"
        not in shape.chat({"messages": HELLO, "tools": [WEATHER]}, tools=False, context=4096).body
    )
    assert shape.chat({"messages": HELLO, "tools": [WEATHER]}, tools=True, context=4096).body[
        "tools"
    ] == [WEATHER]
    none = {"messages": HELLO, "tools": [WEATHER], "tool_choice": "none"}
    assert "tools" not in shape.chat(none, tools=True, context=4096).body


def test_required_becomes_a_schema_and_a_note() -> None:
    body = {"messages": HELLO, "tools": [WEATHER, CLOCK], "tool_choice": "required"}
    shaped = shape.chat(body, tools=True, context=4096)
    assert shaped.forced
    assert "tools" not in shaped.body
    sent = shaped.body["response_format"]["json_schema"]["schema"]
    names = [call["properties"]["name"]["const"] for call in sent["anyOf"]]
    assert names == ["weather", "clock"]
    assert shaped.body["messages"][0]["role"] == "system"
    assert '"weather"' in shaped.body["messages"][0]["content"]
    assert body["messages"] is HELLO


def test_named_and_allowed_tools_narrow() -> None:
    named = {"type": "function", "function": {"name": "clock"}}
    assert choose({"tools": [WEATHER, CLOCK], "tool_choice": named}).tools == [CLOCK]
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [WEATHER]}}
    chosen = choose({"tools": [WEATHER, CLOCK], "tool_choice": allowed})
    assert chosen == ([WEATHER], None)


@pytest.mark.parametrize(
    "body",
    [
        {"tool_choice": "required"},
        {"tools": [{"type": "custom", "custom": {"name": "x"}}], "tool_choice": "required"},
        {"tools": [CLOCK], "tool_choice": {"type": "function", "function": {"name": "x"}}},
        {"tools": [CLOCK], "tool_choice": "perhaps"},
    ],
)
def test_impossible_tool_choice(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue) as caught:
        choose(body)
    assert caught.value.param == "tool_choice"


def test_references_keep_their_meaning() -> None:
    parameters = {
        "$defs": {"city": {"type": "string"}},
        "properties": {"city": {"$ref": "#/$defs/city"}, "again": {"$ref": "#"}},
    }
    forced = schema([{"function": {"name": "f", "parameters": parameters}}])
    assert forced["properties"]["arguments"] == {"$ref": "#/$defs/tool0"}
    inner = forced["$defs"]["tool0"]["properties"]
    assert inner == {
        "city": {"$ref": "#/$defs/tool0/$defs/city"},
        "again": {"$ref": "#/$defs/tool0"},
    }


@pytest.mark.parametrize(
    ("form", "error", "param"),
    [
        ({"type": "json_schema"}, MissingParameter, "response_format.json_schema.schema"),
        ({"type": "yaml"}, InvalidValue, "response_format.type"),
    ],
)
def test_wrong_response_format(form: Any, error: type[HubError], param: str) -> None:
    with pytest.raises(error) as caught:
        chat(response_format=form)
    assert caught.value.param == param


def test_completion() -> None:
    shaped = shape.completion({"prompt": ["Once"], "echo": True}, 0, context=4096)
    assert shaped.body["prompt"] == "Once"
    assert shaped.body["max_tokens"] == shape.COMPLETION_TOKENS
    assert shaped.echo == "Once"


@pytest.mark.parametrize(
    ("field", "value"), [("suffix", "x"), ("best_of", 2), ("echo", True), ("function_call", {})]
)
def test_unsupported(field: str, value: Any) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        if field == "function_call":
            chat(function_call={"name": "f"})
        else:
            shape.completion({"prompt": "x", "logprobs": 1, field: value}, 0, context=4096)
    assert caught.value.param == field


def test_continuing_a_chat_and_a_prompt() -> None:
    body: dict[str, Any] = {"messages": HELLO, "max_tokens": 10}
    continue_behind(body, "One,", 2)
    assert body["messages"] == [*HELLO, {"role": "assistant", "content": "One,"}]
    assert body["max_tokens"] == 8
    continue_behind(body, " two", 1)
    assert body["messages"][-1]["content"] == "One, two"
    prompt: dict[str, Any] = {"prompt": "Once"}
    continue_behind(prompt, " upon", 1)
    assert prompt == {"prompt": "Once upon"}
    assert HELLO == [{"role": "user", "content": "Hello"}]


def test_costly_constraints_are_refused_by_name() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"items": deep}
    function = {"name": "f", "parameters": deep}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": deep}}
    for field, value, param in (
        ("response_format", form, "response_format.json_schema.schema"),
        ("json_schema", deep, "json_schema"),
        ("tools", [CLOCK, {"type": "function", "function": function}], "tools[1]"),
        ("tools", [CLOCK] * 129, "tools"),
        ("grammar", "root ::= root", "grammar"),
    ):
        with pytest.raises(HubError) as caught:
            shape.chat({"messages": HELLO, field: value}, tools=True, context=4096)
        assert caught.value.status == 400
        assert str(caught.value.param).startswith(param)
