"""A client's request as Ollama's native API wants it. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from shared.errors import InvalidType, InvalidValue, UnsupportedParameter, UnsupportedValue
from worker.engines import shape
from worker.engines.forcing import choose
from worker.engines.logprobs import ChatLogprobs, TextLogprobs
from worker.engines.media import Message, flatten_one

Body = dict[str, Any]

OPTIONS = (
    *("temperature", "top_p", "top_k", "min_p", "typical_p", "seed", "presence_penalty"),
    *("frequency_penalty", "repeat_penalty", "repeat_last_n", "num_keep"),
)
"""Request fields that Ollama takes in `options` under the same name."""
THINKING: dict[str, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
}
"""OpenAI's reasoning_effort in Ollama's words."""


class Shaped(NamedTuple):
    """`body` for Ollama, and how to read its answer."""

    body: Body
    logprobs: ChatLogprobs | TextLogprobs | None
    forced: bool
    """The answer is a tool call written as JSON."""
    schema_param: str
    """The request field a schema came from."""
    echo: str
    """Text of the prompt that comes before the generated text."""


def chat(body: Body, capabilities: frozenset[str]) -> Shaped:
    """Shape /v1/chat/completions as /api/chat; raises InvalidRequest errors."""
    refuse(body)
    tools = "tools" in capabilities
    forced = choose(body)
    shaped = rest(body, body.get("max_completion_tokens", body.get("max_tokens")))
    shaped["messages"] = messages(body["messages"], tools, "vision" in capabilities)
    if forced.schema is not None:
        shape.force(shaped, forced)
        del shaped["response_format"]
        shaped["format"] = forced.schema
    else:
        if forced.tools and tools:
            shaped["tools"] = forced.tools
        form = shape.response_format(body.get("response_format"))
        if form is not None:
            shaped["format"] = form["json_schema"]["schema"] if "json_schema" in form else "json"
    effort = body.get("reasoning_effort")
    if effort is not None and "thinking" in capabilities:
        shaped["think"] = THINKING.get(effort, effort)
    top = body.get("top_logprobs", 0)
    asked = bool(body.get("logprobs")) and forced.schema is None
    if asked:
        shaped |= {"logprobs": True, "top_logprobs": top}
    return Shaped(
        shaped,
        ChatLogprobs(top) if asked else None,
        forced.schema is not None,
        shape.schema_param(body, forced),
        "",
    )


def completion(body: Body, resumed: int) -> Shaped:
    """Shape /v1/completions as /api/generate, without the model's template.

    `resumed` is how many characters earlier attempts gave. Raises InvalidRequest errors.
    """
    refuse(body)
    for name, default in (("suffix", ""), ("best_of", 1)):
        if body.get(name, default) != default:
            raise UnsupportedParameter(f"{name} is not supported by this model.", param=name)
    prompt = body["prompt"]
    if isinstance(prompt, list):
        if len(prompt) != 1 or not isinstance(prompt[0], str):
            raise UnsupportedValue("This model takes prompts of text only.", param="prompt")
        prompt = prompt[0]
    if not prompt:
        raise InvalidValue("This model needs a prompt that is not empty.", param="prompt")
    shaped = rest(body, body.get("max_tokens", shape.COMPLETION_TOKENS))
    shaped |= {"prompt": prompt, "raw": True}
    top = body.get("logprobs")
    if isinstance(top, bool):
        top = 1 if top else None
    echo = bool(body.get("echo"))
    if echo and top is not None:
        raise UnsupportedParameter("echo together with logprobs is not supported.", param="echo")
    if top is not None:
        shaped |= {"logprobs": True, "top_logprobs": top}
    reader = TextLogprobs(top, resumed) if top is not None else None
    return Shaped(shaped, reader, False, "response_format", prompt if echo else "")


def refuse(body: Body) -> None:
    """Raises UnsupportedParameter for what Ollama would pass over in silence."""
    for name in ("logit_bias", "grammar"):
        if body.get(name):
            raise UnsupportedParameter(f"{name} is not supported by this model.", param=name)
    if isinstance(body.get("function_call"), dict):
        raise UnsupportedParameter(
            "function_call with a name is not supported. Use tools and tool_choice.",
            param="function_call",
        )


def rest(body: Body, limit: int | None) -> Body:
    """What every request has. Too long a prompt is an error, never cut short in silence."""
    options = {name: body[name] for name in OPTIONS if name in body}
    stop = body.get("stop")
    if stop:
        options["stop"] = [stop] if isinstance(stop, str) else stop
    if limit is not None:
        options["num_predict"] = limit
    return {"stream": True, "truncate": False, "shift": False, "options": options}


def messages(given: list[Message], tools: bool, vision: bool) -> list[Message]:
    """One string of content a message, images beside it, call arguments as objects."""
    names: dict[str, str] = {}
    return [message(one, at, names, tools, vision) for at, one in enumerate(given)]


def message(given: Message, at: int, names: dict[str, str], tools: bool, vision: bool) -> Message:
    """`names` gathers the functions of the calls seen so far, by the call's id."""
    images, given = split_images(given, at) if vision else ([], given)
    flat = flatten_one(given, at, tools)
    shaped: Message = {"role": flat["role"], "content": flat["content"]}
    if images:
        shaped["images"] = images
    calls = flat.get("tool_calls")
    if calls:
        shaped["tool_calls"] = [
            call(one, f"messages[{at}].tool_calls[{i}]", names) for i, one in enumerate(calls)
        ]
    if flat["role"] in ("tool", "function"):
        identity = flat.get("tool_call_id", "")
        shaped |= {"role": "tool", "tool_name": flat.get("name") or names.get(identity, "")}
        if identity:
            shaped["tool_call_id"] = identity
    return shaped


def call(given: Any, param: str, names: dict[str, str]) -> Body:
    function = given.get("function") or {}
    name = function.get("name", "")
    names[given.get("id", "")] = name
    try:
        arguments = msgspec.json.decode(function.get("arguments") or "{}", type=dict[str, Any])
    except (msgspec.MsgspecError, TypeError):
        raise InvalidValue(
            "arguments must be the text of a JSON object.", param=f"{param}.function.arguments"
        ) from None
    return {"id": given.get("id", ""), "function": {"name": name, "arguments": arguments}}


def split_images(given: Message, at: int) -> tuple[list[str], Message]:
    """The message's images in base64, and the message without them."""
    content = given.get("content")
    if not isinstance(content, list):
        return [], given
    images: list[str] = []
    kept: list[Any] = []
    for i, part in enumerate(content):
        if isinstance(part, dict) and part.get("type") == "image_url":
            images.append(image(part.get("image_url"), f"messages[{at}].content[{i}].image_url"))
        else:
            kept.append(part)
    return images, given | {"content": kept}


def image(value: Any, param: str) -> str:
    url = value.get("url") if isinstance(value, dict) else value
    if not isinstance(url, str):
        raise InvalidType("image_url must have a url.", param=param)
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise UnsupportedValue("Images must be given as data URLs in base64.", param=param)
    return data
