"""A client's request as llama.cpp wants it. Pure.

What is passed on as it came is listed in sampling.py; every other field is shaped here or dropped.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from shared.errors import InvalidType, InvalidValue, MissingParameter, UnsupportedParameter
from worker.engines.constraint import anchored, check_schema
from worker.engines.forcing import Forced, choose
from worker.engines.logprobs import ChatLogprobs, TextLogprobs
from worker.engines.media import flatten
from worker.engines.sampling import sampling

Body = dict[str, Any]

MOST_TOOLS = 128
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


def sampled(body: Body, context: int) -> Body:
    """The sampling parameters, with what every request asks of the engine."""
    return sampling(body, context) | {"stream": True, "stream_options": {"include_usage": True}}


def chat(body: Body, *, tools: bool, context: int) -> Shaped:
    """Shape /v1/chat/completions; `tools` tells whether the model's template knows tools.

    Raises InvalidType, InvalidValue, MissingParameter and UnsupportedParameter.
    """
    if isinstance(body.get("function_call"), dict):
        raise UnsupportedParameter(
            "function_call with a name is not supported. Use tools and tool_choice.",
            param="function_call",
        )
    check_constraints(body)
    shaped = sampled(body, context)
    shaped["messages"] = flatten(body["messages"], tools=tools)
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    if limit is not None:
        shaped["max_tokens"] = min(limit, context)
    forced = choose(body)
    if forced.schema is not None:
        force(shaped, forced)
    else:
        if forced.tools and tools:
            shaped["tools"] = forced.tools
            shaped["parallel_tool_calls"] = body.get("parallel_tool_calls", True)
        form = response_format(body.get("response_format"), body.get("json_schema"))
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


def check_constraints(body: Body) -> None:
    """Raises for what would hold the engine up: any grammar, and tools that cost too much."""
    if body.get("grammar") is not None:
        # A grammar of 40 bytes can be ambiguous enough to stand the engine still for minutes.
        raise UnsupportedParameter(
            "grammar is not supported. Use response_format with a JSON schema.", param="grammar"
        )
    tools = body.get("tools") or ()
    if len(tools) > MOST_TOOLS:
        raise InvalidValue(f"At most {MOST_TOOLS} tools are allowed.", param="tools")
    for at, tool in enumerate(tools):
        parameters = (tool.get("function") or {}).get("parameters")
        if parameters is not None:
            check_schema(parameters, f"tools[{at}].function.parameters")


def schema_param(body: Body, forced: Forced) -> str:
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


def response_format(form: Any, bare: Any = None) -> Body | None:
    """`bare` is the schema as llama.cpp's own clients give it, used where there is no `form`."""
    if form is None and bare is not None:
        return schema_format(bare, "json_schema")
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
    return schema_format(schema, "response_format.json_schema.schema")


def schema_format(schema: Any, param: str) -> Body:
    if not isinstance(schema, dict):
        raise InvalidType("The schema must be an object.", param=param)
    check_schema(schema, param)
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": anchored(schema)}}


def completion(body: Body, resumed: int, *, context: int) -> Shaped:
    """Shape /v1/completions; `resumed` is how many characters earlier attempts gave."""
    for name, default in (("suffix", ""), ("best_of", 1)):
        if body.get(name, default) != default:
            raise UnsupportedParameter(f"{name} is not supported by this model.", param=name)
    shaped = sampled(body, context)
    prompt = body["prompt"]
    if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
        prompt = prompt[0]
    shaped["prompt"] = prompt
    shaped["max_tokens"] = min(body.get("max_tokens", COMPLETION_TOKENS), context)
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
