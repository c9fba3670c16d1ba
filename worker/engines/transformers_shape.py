"""A client's request as our child with transformers wants it. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from shared.errors import UnsupportedParameter
from worker.engines import shape
from worker.engines.base import Generation
from worker.engines.logprobs import ChatLogprobs, TextLogprobs
from worker.engines.sampling import RULES

SAMPLING = (
    *("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty"),
    *("repeat_penalty", "repeat_last_n", "seed", "logit_bias"),
)
OTHERS = ("stop", "ignore_eos", "chat_template_kwargs")
NEUTRAL = {"cache_prompt": (True, False), "reasoning_format": ("none", "auto")}
"""Wishes that change no answer of this engine."""
FOREIGN = (
    *("repetition_penalty", "min_tokens", "stop_token_ids", "bad_words", "skip_special_tokens"),
    *("structured_outputs", "continue_final_message", "add_generation_prompt", "length_penalty"),
    *("use_beam_search", "num_beams", "lora", "lora_scale"),
)
"""Parameters of other engines."""
ANY_OBJECT = {"type": "object"}


class Shaped(NamedTuple):
    """`body` for the child, and how to read its answer."""

    body: dict[str, Any]
    logprobs: ChatLogprobs | TextLogprobs | None
    forced: bool
    """The answer is a tool call written as JSON."""
    schema_param: str
    """The request field a schema came from."""
    echo: str
    """Text of the prompt that comes before the generated text."""


def shaped(generation: Generation, context: int) -> Shaped:
    """Raises InvalidType, InvalidValue, MissingParameter and UnsupportedParameter."""
    body = generation.body
    check_supported(body)
    if generation.kind == "chat":
        made = shape.chat(body, tools=False, context=context)
    else:
        made = shape.completion(body, len(generation.resume), context=context)
    asked = made.body
    told: dict[str, Any] = {
        "sampling": {name: asked[name] for name in SAMPLING if name in asked},
        "stop": stops(asked.get("stop")),
        "ignore_eos": asked.get("ignore_eos", False),
        "template": asked.get("chat_template_kwargs", {}),
        "max_tokens": asked.get("max_tokens"),
        "schema": schema(asked.get("response_format")),
        "resume": generation.resume[len(made.echo) :],
        "adapter": generation.adapter,
    }
    if made.logprobs is not None:
        told["top_logprobs"] = asked.get("top_logprobs", asked.get("logprobs"))
    subject = "messages" if generation.kind == "chat" else "prompt"
    told[subject] = asked[subject]
    if (told["sampling"].get("top_k") or 0) < 0:
        told["sampling"]["top_k"] = 0
    return Shaped(told, made.logprobs, made.forced, made.schema_param, made.echo)


def check_supported(body: dict[str, Any]) -> None:
    """Raises UnsupportedParameter for what would have to be ignored."""
    for name in (*RULES, *FOREIGN):
        value = body.get(name)
        if value is None or name in SAMPLING or name in OTHERS or value in NEUTRAL.get(name, ()):
            continue
        raise UnsupportedParameter(f"{name} is not supported by this model.", param=name)


def stops(stop: str | list[str] | None) -> list[str]:
    return [stop] if isinstance(stop, str) else stop or []


def schema(form: dict[str, Any] | None) -> dict[str, Any] | None:
    if form is None:
        return None
    found: dict[str, Any] = (form.get("json_schema") or {}).get("schema", ANY_OBJECT)
    return found
