"""Every parameter the hub promises: each reply, error and chunk against the published schema."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contract import schema
from tests.contract.client import Client, events
from tests.hub import Hub

ASK = [{"role": "user", "content": "Name one colour."}]
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}
COLOUR = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green", "blue"]}},
    "required": ["colour"],
    "additionalProperties": False,
}
PARAMETERS: list[dict[str, Any]] = [
    {},
    {"n": 2},
    {"stop": "e"},
    {"stop": ["e", "a"]},
    {"seed": 7, "temperature": 1.0},
    {"temperature": 0},
    {"top_p": 0.5},
    {"presence_penalty": 1.0, "frequency_penalty": -0.5},
    {"max_completion_tokens": 3},
    {"logprobs": True},
    {"logprobs": True, "top_logprobs": 2},
    {"logit_bias": {"5": 1.5}},
    {"response_format": {"type": "text"}},
    {"response_format": {"type": "json_object"}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "c", "schema": COLOUR}}},
    {"tools": [ADD]},
    {"tools": [ADD], "tool_choice": "none"},
    {"tools": [ADD], "tool_choice": "auto"},
    {"tools": [ADD], "tool_choice": "required", "max_tokens": 96},
    {
        "tools": [ADD],
        "tool_choice": {"type": "function", "function": {"name": "add"}},
        "max_tokens": 96,
    },
    {"tools": [ADD], "parallel_tool_calls": False},
    {"service_tier": "flex"},
    {"service_tier": "auto"},
    {"user": "u", "metadata": {"a": "b"}, "store": False},
    {"client_metadata": {"x": 1}, "prompt_cache_key": "k"},
    {"temperature": None, "n": None, "stop": None, "tools": None, "stream_options": None},
]


@pytest.fixture
def client(hub: Hub) -> Client:
    return Client(hub.base_url, hub.key)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fields", PARAMETERS, ids=lambda f: ",".join(f) or "plain")
def test_chat(client: Client, hub: Hub, fields: dict[str, Any], stream: bool) -> None:
    limit = {} if "max_completion_tokens" in fields else {"max_tokens": 12}
    body = {"model": hub.chat_model, "messages": ASK, **limit, **fields, "stream": stream}
    reply = client.post("/chat/completions", **body)
    assert reply.status == 200, reply.body
    if stream:
        check_stream(events(reply), fields.get("n") or 1)
    else:
        assert len(reply.json["choices"]) == (fields.get("n") or 1)
        for choice in reply.json["choices"]:
            assert {"refusal": None, "annotations": []}.items() <= choice["message"].items()


def check_stream(chunks: list[dict[str, Any]], choices: int) -> None:
    assert len({(c["id"], c["created"], c["model"], c["system_fingerprint"]) for c in chunks}) == 1
    for index in range(choices):
        own = [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]
        assert own[0]["delta"]["role"] == "assistant"
        assert [choice["finish_reason"] for choice in own].count(None) == len(own) - 1
        assert own[-1]["finish_reason"] is not None


def test_a_stream_says_what_the_whole_answer_says(client: Client, hub: Hub) -> None:
    body = {"model": hub.chat_model, "messages": ASK, "max_tokens": 24, "temperature": 0}
    whole = client.post("/chat/completions", **body).json
    options = {"include_usage": True}
    chunks = events(client.post("/chat/completions", **body, stream=True, stream_options=options))
    *content, last = chunks
    text = "".join(c["delta"].get("content", "") for k in content for c in k["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert [chunk["usage"] for chunk in content] == [None] * len(content)
    assert last["choices"] == []
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert last["usage"][name] == whole["usage"][name]


def test_json_schema_is_kept_by_the_grammar(client: Client, hub: Hub) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "c", "schema": COLOUR, "strict": True}}
    body = {"model": hub.chat_model, "messages": ASK, "response_format": form, "max_tokens": 40}
    text = client.post("/chat/completions", **body).json["choices"][0]["message"]["content"]
    assert json.loads(text)["colour"] in ("red", "green", "blue")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
def test_a_forced_tool_is_called_alike_in_both_ways(client: Client, hub: Hub, choice: Any) -> None:
    body = {
        "model": hub.chat_model,
        "messages": [{"role": "user", "content": "What is 2 + 3?"}],
        "tools": [ADD],
        "tool_choice": choice,
        "temperature": 0,
        "max_tokens": 120,
    }
    [call] = client.post("/chat/completions", **body).json["choices"][0]["message"]["tool_calls"]
    assert (call["type"], call["function"]["name"]) == ("function", "add")
    arguments = json.loads(call["function"]["arguments"])
    assert {name: type(value) for name, value in arguments.items()} == {"a": int, "b": int}
    chunks = events(client.post("/chat/completions", **body, stream=True))
    calls = [
        call
        for chunk in chunks
        for choice in chunk["choices"]
        for call in choice["delta"].get("tool_calls", [])
    ]
    assert calls[0]["id"]
    assert calls[0]["function"]["name"] == "add"
    assert json.loads("".join(c["function"]["arguments"] for c in calls)) == arguments


def test_media_for_a_model_that_reads_text_is_announced(client: Client, hub: Hub) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    content = [{"type": "text", "text": "What is this?"}, image]
    messages = [{"role": "user", "content": content}]
    reply = client.post("/chat/completions", model=hub.chat_model, messages=messages, max_tokens=4)
    assert reply.status == 200
    assert "text only" in reply.headers["x-aihub-notice"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "Once upon"},
        {"prompt": ["Once", "Twice"]},
        {"prompt": [1, 2, 3]},
        {"prompt": [[1, 2], [3]]},
        {"prompt": "Once", "n": 2},
        {"prompt": "Once", "logprobs": 2},
        {"prompt": "Once", "stop": [" a"], "seed": 3},
    ],
    ids=str,
)
def test_completions(client: Client, hub: Hub, fields: dict[str, Any], stream: bool) -> None:
    body = {"model": hub.chat_model, "max_tokens": 6, **fields, "stream": stream}
    reply = client.post("/completions", **body)
    assert reply.status == 200, reply.body


@pytest.mark.parametrize("encoding", ["float", "base64", None])
@pytest.mark.parametrize("given", ["a", ["a", "bc"], [2028, 3], [[2028], [9906, 1917]]], ids=str)
def test_embeddings(client: Client, hub: Hub, given: Any, encoding: str | None) -> None:
    body = {"model": hub.embedding_model, "input": given, "encoding_format": encoding}
    reply = client.post("/embeddings", **body)
    assert reply.status == 200, reply.body
    many = len(given) if isinstance(given, list) and not isinstance(given[0], int) else 1
    assert [row["index"] for row in reply.json["data"]] == list(range(many))
    assert reply.json["usage"]["prompt_tokens"] > 0


@pytest.mark.parametrize("base", ["//v1", "//api/v1"])
def test_models(client: Client, hub: Hub, base: str) -> None:
    listed = client.send("GET", f"{base}/models").json
    schema.check("ListModelsResponse", listed)
    assert {hub.chat_model, hub.embedding_model} <= {model["id"] for model in listed["data"]}
    for model in listed["data"]:
        assert client.send("GET", f"{base}/models/{model['id']}").json == model
    assert client.send("HEAD", f"{base}/models").body == b""
