from __future__ import annotations

from typing import Any

import pytest

from shared.errors import InvalidValue, UnsupportedParameter
from worker.engines.base import Generation
from worker.engines.transformers_shape import shaped

HI = [{"role": "user", "content": "Hi"}]


def chat(**body: Any) -> dict[str, Any]:
    return shaped(Generation(kind="chat", body={"messages": HI, **body}), 100).body


def test_what_the_child_is_told() -> None:
    told = chat(
        temperature=0.5, top_k=-1, seed=7, stop="x", max_tokens=500, logit_bias={"5": 1}, top_p=0.9
    )
    assert told["messages"] == HI
    assert told["sampling"] == {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 0,
        "seed": 7,
        "logit_bias": {"5": 1},
    }
    assert (told["stop"], told["max_tokens"], told["schema"]) == (["x"], 100, None)
    assert "top_logprobs" not in told
    assert chat(stop=["a", "b"])["stop"] == ["a", "b"]
    assert chat(logprobs=True, top_logprobs=3)["top_logprobs"] == 3
    assert chat(chat_template_kwargs={"enable_thinking": False})["template"] == {
        "enable_thinking": False
    }


def test_schemas() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    assert chat(response_format=form)["schema"]["properties"] == schema["properties"]
    assert chat(response_format={"type": "json_object"})["schema"] == {"type": "object"}
    tools = [{"type": "function", "function": {"name": "f"}}]
    forced = Generation(
        kind="chat", body={"messages": HI, "tools": tools, "tool_choice": "required"}
    )
    made = shaped(forced, 100)
    assert made.forced
    assert made.schema_param == "tools"
    assert made.body["schema"]["properties"]["name"] == {"const": "f"}
    assert not shaped(Generation(kind="chat", body={"messages": HI, "tools": tools}), 100).forced


def test_completions_and_what_came_before() -> None:
    asked = {"prompt": "Once", "echo": True, "max_tokens": 5}
    made = shaped(Generation(kind="completion", body=asked, resume="Once upon", adapter="a"), 100)
    assert (made.echo, made.body["resume"], made.body["adapter"]) == ("Once", " upon", "a")
    assert made.body["prompt"] == "Once"
    assert shaped(Generation(kind="completion", body={"prompt": [1, 2]}), 9).body["prompt"] == [
        1,
        2,
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mirostat", 2),
        ("typical_p", 0.5),
        ("samplers", ["top_k"]),
        ("min_tokens", 3),
        ("repetition_penalty", 1.2),
        ("reasoning_format", "deepseek"),
        ("grammar", "root ::= x"),
    ],
)
def test_nothing_is_ignored(name: str, value: Any) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        chat(**{name: value})
    assert caught.value.param == name
    assert chat(**{name: None})["sampling"] == {}


def test_wishes_that_change_no_answer_are_taken() -> None:
    assert chat(cache_prompt=True, reasoning_format="none")["sampling"] == {}


def test_values_are_checked() -> None:
    with pytest.raises(InvalidValue) as caught:
        chat(temperature=9)
    assert caught.value.param == "temperature"
