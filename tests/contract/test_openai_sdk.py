"""The newest openai package, unmodified: what it parses, raises and pages."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.hub import Hub

ASK: Any = [{"role": "user", "content": "Name one colour."}]
ADD: Any = {
    "type": "function",
    "function": {
        "name": "add",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}


class Pick(BaseModel):
    colour: Literal["red", "green", "blue"]


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@pytest.fixture
def client(hub: Hub) -> Iterator[OpenAI]:
    with OpenAI(base_url=hub.base_url, api_key=hub.key, max_retries=0) as client:
        yield client


def test_chat(client: OpenAI, hub: Hub) -> None:
    answer = client.chat.completions.create(
        model=hub.chat_model, messages=ASK, max_completion_tokens=16, temperature=0
    )
    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id is not None
    assert answer._request_id.startswith("req_")


def test_chat_stream(client: OpenAI, hub: Hub) -> None:
    whole = client.chat.completions.create(
        model=hub.chat_model, messages=ASK, max_tokens=16, temperature=0
    )
    with client.chat.completions.create(
        model=hub.chat_model,
        messages=ASK,
        max_tokens=16,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_the_stream_helper_builds_the_same_completion(client: OpenAI, hub: Hub) -> None:
    with client.chat.completions.stream(
        model=hub.chat_model, messages=ASK, max_tokens=40, n=2, response_format=Pick
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert [choice.index for choice in final.choices] == [0, 1]
    assert all(isinstance(choice.message.parsed, Pick) for choice in final.choices)


def test_parse_gives_a_typed_object(client: OpenAI, hub: Hub) -> None:
    answer = client.chat.completions.parse(
        model=hub.chat_model, messages=ASK, response_format=Pick, max_tokens=40
    )
    parsed = answer.choices[0].message.parsed
    assert parsed is not None
    assert parsed.colour in ("red", "green", "blue")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
def test_tools(client: OpenAI, hub: Hub, choice: Any) -> None:
    body: Any = {
        "model": hub.chat_model,
        "messages": [{"role": "user", "content": "What is 2 + 3?"}],
        "tools": [ADD],
        "tool_choice": choice,
        "max_tokens": 120,
        "temperature": 0,
    }
    [call] = client.chat.completions.parse(**body).choices[0].message.tool_calls or []
    assert call.function.name == "add"
    assert set(call.function.parsed_arguments or {}) == {"a", "b"}
    with client.chat.completions.stream(**body) as stream:
        streamed = stream.get_final_completion().choices[0].message.tool_calls or []
    assert [c.function.arguments for c in streamed] == [call.function.arguments]
    messages = [
        *body["messages"],
        {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]},
        {"role": "tool", "tool_call_id": call.id, "content": "5"},
    ]
    follow = client.chat.completions.create(
        model=hub.chat_model, messages=messages, tools=[ADD], tool_choice="none", max_tokens=8
    )
    assert follow.choices[0].message.content


def test_logprobs(client: OpenAI, hub: Hub) -> None:
    answer = client.chat.completions.create(
        model=hub.chat_model,
        messages=ASK,
        max_tokens=4,
        temperature=0,
        logprobs=True,
        top_logprobs=2,
    )
    logged = answer.choices[0].logprobs
    assert logged is not None
    assert logged.content is not None
    assert all(len(token.top_logprobs) == 2 for token in logged.content)
    assert "".join(token.token for token in logged.content) == answer.choices[0].message.content


def test_completions(client: OpenAI, hub: Hub) -> None:
    body: Any = {"model": hub.chat_model, "prompt": "One, two,", "max_tokens": 6, "temperature": 0}
    whole = client.completions.create(**body)
    with client.completions.create(**body, stream=True) as stream:
        text = "".join(choice.text for chunk in stream for choice in chunk.choices)
    assert whole.choices[0].text == text


def test_embeddings_are_base64_by_default_and_unit_length(client: OpenAI, hub: Hub) -> None:
    given = ["a cat", "a kitten", "the stock market"]
    default = client.embeddings.create(model=hub.embedding_model, input=given)
    floats = client.embeddings.create(
        model=hub.embedding_model, input=given, encoding_format="float"
    )
    for one, other in zip(default.data, floats.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert math.hypot(*one.embedding) == pytest.approx(1, abs=1e-3)
    cat, kitten, market = (row.embedding for row in default.data)
    assert dot(cat, kitten) > dot(cat, market)


def test_models(client: OpenAI, hub: Hub) -> None:
    names = [model.id for model in client.models.list()]
    assert {hub.chat_model, hub.embedding_model} <= set(names)
    found = client.models.retrieve("smollm2")
    assert found.id == hub.chat_model
    told: Any = found.model_extra
    assert (told["aihub"]["state"], told["aihub"]["devices"]) == ("ready", ["cpu"])
    assert (told["aihub"]["kind"], told["aihub"]["aliases"]) == ("chat", ["smollm2"])


def test_raw_responses_show_the_headers(client: OpenAI, hub: Hub) -> None:
    raw = client.models.with_raw_response.list()
    assert raw.headers["openai-version"] == "2020-10-01"
    assert raw.request_id == raw.headers["x-request-id"]
    with client.chat.completions.with_streaming_response.create(
        model=hub.chat_model, messages=ASK, max_tokens=2, stream=True
    ) as streamed:
        assert streamed.headers["x-request-id"].startswith("req_")
        assert list(streamed.iter_lines())


def test_errors_are_the_right_exceptions(client: OpenAI, hub: Hub) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-9", messages=ASK)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    assert missing.value.request_id is not None
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model=hub.chat_model, messages=ASK, temperature=9)
    assert wrong.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(
            model=hub.chat_model,
            messages=[{"role": "user", "content": "word " * 20_000}],
            stream=True,
        )
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.AuthenticationError) as stranger:
        client.with_options(api_key="sk-wrong").models.list()
    assert stranger.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("org/none:latest")


async def test_the_asynchronous_client(hub: Hub) -> None:
    async with AsyncOpenAI(base_url=hub.base_url, api_key=hub.key, max_retries=0) as client:
        body: Any = {
            "model": hub.chat_model,
            "messages": ASK,
            "max_tokens": 8,
            "temperature": 0,
        }
        whole = await client.chat.completions.create(**body)
        text = ""
        async with await client.chat.completions.create(**body, stream=True) as stream:
            async for chunk in stream:
                text += "".join(choice.delta.content or "" for choice in chunk.choices)
        assert text == whole.choices[0].message.content
        vectors = await client.embeddings.create(model=hub.embedding_model, input="a")
        assert vectors.data[0].embedding
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="gpt-9", messages=ASK)
