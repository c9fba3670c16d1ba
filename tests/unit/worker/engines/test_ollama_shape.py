from __future__ import annotations

from typing import Any

import pytest

from shared.errors import HubError, InvalidValue, UnsupportedParameter, UnsupportedValue
from worker.engines.ollama_shape import chat, completion

HELLO = [{"role": "user", "content": "Hello"}]
ALL = frozenset(("completion", "tools", "vision", "thinking"))
PNG = "data:image/png;base64,iVBORw0KGgo="
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def shaped(capabilities: frozenset[str] = ALL, **body: Any) -> dict[str, Any]:
    return chat({"messages": HELLO} | body, capabilities).body


def test_sampling_goes_into_options() -> None:
    body = shaped(
        temperature=0.5, seed=7, top_k=3, max_tokens=9, stop="x", user="u", metadata={}, n=2
    )
    assert body == {
        "messages": HELLO,
        "stream": True,
        "truncate": False,
        "shift": False,
        "options": {"temperature": 0.5, "seed": 7, "top_k": 3, "num_predict": 9, "stop": ["x"]},
    }
    assert shaped(max_completion_tokens=5, stop=["a", "b"])["options"] == {
        "num_predict": 5,
        "stop": ["a", "b"],
    }


def test_calls_and_their_results() -> None:
    function = {"name": "weather", "arguments": '{"city": "Paris"}'}
    given = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": function}]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    ]
    assert shaped(messages=given, tools=[WEATHER])["tools"] == [WEATHER]
    assert shaped(messages=given)["messages"][1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "c1", "function": {"name": "weather", "arguments": {"city": "Paris"}}}
            ],
        },
        {"role": "tool", "content": "rain", "tool_name": "weather", "tool_call_id": "c1"},
    ]
    told = shaped(frozenset(("completion",)), messages=given, tools=[WEATHER])
    assert "tools" not in told
    assert [message["role"] for message in told["messages"]] == ["user", "assistant", "user"]
    assert '"arguments": {"city": "Paris"}' in told["messages"][1]["content"]


def test_images_of_a_model_that_sees() -> None:
    content = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": PNG}},
    ]
    given = [{"role": "user", "content": content}]
    assert shaped(messages=given)["messages"] == [
        {"role": "user", "content": "What is it?", "images": ["iVBORw0KGgo="]}
    ]
    blind = shaped(frozenset(), messages=given)["messages"][0]
    assert "images" not in blind
    assert "cannot see images" in blind["content"]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"type": "json_object"}, "json"),
        ({"type": "json_schema", "json_schema": {"schema": {"type": "null"}}}, {"type": "null"}),
    ],
)
def test_formats(form: dict[str, Any], expected: Any) -> None:
    assert shaped(response_format=form)["format"] == expected
    assert "format" not in shaped(response_format={"type": "text"})


def test_a_forced_call_is_a_schema() -> None:
    answer = chat({"messages": HELLO, "tools": [WEATHER], "tool_choice": "required"}, ALL)
    assert answer.forced
    assert answer.body["format"]["properties"]["name"] == {"const": "weather"}
    assert "response_format" not in answer.body
    assert "tools" not in answer.body
    assert answer.body["messages"][0]["role"] == "system"


@pytest.mark.parametrize(("effort", "think"), [("none", False), ("minimal", "low"), ("high",) * 2])
def test_reasoning_effort(effort: str, think: Any) -> None:
    assert shaped(reasoning_effort=effort)["think"] == think
    assert "think" not in shaped(frozenset(), reasoning_effort=effort)


def test_completions_are_raw() -> None:
    answer = completion({"prompt": ["Once"], "logprobs": 2, "max_tokens": 3}, 0)
    assert (answer.body["prompt"], answer.body["raw"]) == ("Once", True)
    assert (answer.body["logprobs"], answer.body["top_logprobs"]) == (True, 2)
    assert completion({"prompt": "x"}, 0).body["options"] == {"num_predict": 16}
    assert completion({"prompt": "x", "echo": True}, 0).echo == "x"


IMAGE = "messages[0].content[0].image_url"
ARGUMENTS = "messages[0].tool_calls[0].function.arguments"


def picture(url: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


@pytest.mark.parametrize(
    ("body", "error", "param"),
    [
        ({"logit_bias": {"1": 1}}, UnsupportedParameter, "logit_bias"),
        ({"grammar": "root ::= x"}, UnsupportedParameter, "grammar"),
        ({"function_call": {"name": "f"}}, UnsupportedParameter, "function_call"),
        ({"messages": picture("https://example.com/a.png")}, UnsupportedValue, IMAGE),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [{"function": {"name": "f", "arguments": "["}}],
                    }
                ]
            },
            InvalidValue,
            ARGUMENTS,
        ),
    ],
)
def test_refusals(body: dict[str, Any], error: type[HubError], param: str) -> None:
    with pytest.raises(error) as caught:
        shaped(**body)
    assert caught.value.param == param
