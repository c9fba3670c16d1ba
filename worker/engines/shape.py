"""A client's request as llama.cpp wants it. Pure.

Fields that mean something to OpenAI's service only are dropped; unknown ones are passed on.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from shared.errors import InvalidType, InvalidValue, MissingParameter, UnsupportedParameter
from worker.engines.forcing import Forced, choose
from worker.engines.logprobs import ChatLogprobs, TextLogprobs
from worker.engines.media import flatten

Body = dict[str, Any]

SERVICE_FIELDS = frozenset(
    (
        *("model", "n", "stream", "stream_options", "store", "metadata", "user", "service_tier"),
        *("safety_identifier", "prompt_cache_key", "prompt_cache_options", "prediction"),
        *("prompt_cache_retention", "moderation", "modalities", "audio", "verbosity"),
        *("max_tokens", "max_completion_tokens", "response_format", "logprobs", "top_logprobs"),
        *("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"),
        *("web_search_options", "best_of", "echo", "suffix"),
        *("id_slot", "n_cmpl", "n_predict", "n_probs", "lora"),
    )
)
COMPLETION_TOKENS = 16
"""OpenAI's max_tokens of /v1/completions when none is given."""


class Shaped(NamedTuple):
    """`body` for the engine, and how to read its answer."""

    body: Body
    logprobs: ChatLogprobs | TextLogprobs | None
    forced: bool
    """The answer is a tool call written as JSON."""
    schema_param: str
    """The request field a schema came from."""
    echo: str
    """Text of the prompt that comes before the generated text."""


def rest(body: Body) -> Body:
    """The fields that are passed on, with what every request asks of the engine."""
    kept = {name: value for name, value in body.items() if name not in SERVICE_FIELDS}
    return kept | {"stream": True, "stream_options": {"include_usage": True}}


def chat(body: Body, *, tools: bool) -> Shaped:
    """Shape /v1/chat/completions; `tools` tells whether the model's template knows tools.

    Raises InvalidValue, MissingParameter and UnsupportedParameter.
    """
    if isinstance(body.get("function_call"), dict):
        raise UnsupportedParameter(
            "function_call with a name is not supported. Use tools and tool_choice.",
            param="function_call",
        )
    shaped = rest(body)
    shaped["messages"] = flatten(body["messages"], tools=tools)
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    if limit is not None:
        shaped["max_tokens"] = limit
    forced = choose(body)
    if forced.schema is not None:
        force(shaped, forced)
    else:
        if forced.tools and tools:
            shaped["tools"] = forced.tools
            shaped["parallel_tool_calls"] = body.get("parallel_tool_calls", True)
        form = response_format(body.get("response_format"))
        if form is not None:
            shaped["response_format"] = form
    top = body.get("top_logprobs", 0)
    asked = bool(body.get("logprobs")) and forced.schema is None
    if asked:
        shaped["logprobs"] = True
        shaped["top_logprobs"] = max(top, 1)
    return Shaped(
        shaped,
        ChatLogprobs(top) if asked else None,
        forced.schema is not None,
        schema_param(body, forced),
        "",
    )


def schema_param(body: Body, forced: Forced) -> str:
    if body.get("grammar") is not None:
        return "grammar"
    return "tools" if forced.schema is not None else "response_format"


def force(shaped: Body, forced: Forced) -> None:
    """Make the model write one call: told in words, held to it by a schema."""
    messages = shaped["messages"]
    note = forced.note()
    if messages and messages[0]["role"] == "system":
        first = messages[0] | {"content": f"{messages[0]['content']}\n\n{note}"}
        shaped["messages"] = [first, *messages[1:]]
    else:
        shaped["messages"] = [{"role": "system", "content": note}, *messages]
    shaped["response_format"] = {
        "type": "json_schema",
        "json_schema": {"name": "tool_call", "strict": True, "schema": forced.schema},
    }


def response_format(form: Any) -> Body | None:
    if form is None or form.get("type") == "text":
        return None
    if form.get("type") == "json_object":
        return {"type": "json_object"}
    if form.get("type") != "json_schema":
        raise InvalidValue(
            "response_format.type must be text, json_object or json_schema.",
            param="response_format.type",
        )
    named = form.get("json_schema")
    schema = named.get("schema") if isinstance(named, dict) else None
    if schema is None:
        raise MissingParameter(
            "Missing required parameter: 'response_format.json_schema.schema'.",
            param="response_format.json_schema.schema",
        )
    if not isinstance(schema, dict):
        raise InvalidType(
            "The schema must be an object.", param="response_format.json_schema.schema"
        )
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def completion(body: Body, resumed: int) -> Shaped:
    """Shape /v1/completions; `resumed` is how many characters earlier attempts gave."""
    for name, default in (("suffix", ""), ("best_of", 1)):
        if body.get(name, default) != default:
            raise UnsupportedParameter(f"{name} is not supported by this model.", param=name)
    shaped = rest(body)
    prompt = body["prompt"]
    if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
        prompt = prompt[0]
    shaped["prompt"] = prompt
    shaped["max_tokens"] = body.get("max_tokens", COMPLETION_TOKENS)
    top = body.get("logprobs")
    if isinstance(top, bool):
        top = 1 if top else None
    echo = bool(body.get("echo"))
    if echo and top is not None:
        raise UnsupportedParameter("echo together with logprobs is not supported.", param="echo")
    if echo and not isinstance(prompt, str):
        raise UnsupportedParameter("echo needs a prompt of text, not of tokens.", param="echo")
    if top is not None:
        shaped["logprobs"] = max(top, 1)
    reader = TextLogprobs(top, resumed) if top is not None else None
    return Shaped(shaped, reader, False, "response_format", prompt if echo else "")
