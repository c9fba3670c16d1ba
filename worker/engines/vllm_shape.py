"""A client's request as vLLM wants it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from worker.engines import shape
from worker.engines.base import Generation
from worker.engines.logprobs import Legacy, Logprobs
from worker.engines.resuming import continue_behind

LIMITS = ("max_tokens", "max_completion_tokens")
OWN = (
    *("top_k", "min_p", "repetition_penalty", "min_tokens", "ignore_eos", "stop_token_ids"),
    *("bad_words", "skip_special_tokens", "structured_outputs", "chat_template_kwargs"),
    *("continue_final_message", "add_generation_prompt"),
)
"""What vLLM understands beside OpenAI's parameters; it checks them itself."""
CONSTRAINTS = ("response_format", "structured_outputs")


COUNTS = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
"""In every chunk: who leaves in the middle pays for what was generated until then."""


class Shaped(NamedTuple):
    """`body` for the engine, and how to read its answer."""

    body: dict[str, Any]
    logprobs: Logprobs | None
    forced: bool
    """The answer is a tool call written as JSON."""
    schema_param: str
    """The request field a schema came from."""
    echo: str
    """Text of the prompt that comes before the generated text."""

    @property
    def constrained(self) -> bool:
        """Whether a grammar holds the answer from its first token on."""
        return any(self.body.get(name) is not None for name in CONSTRAINTS)


class OffsetLogprobs:
    """The lists of /v1/completions as vLLM gives them, `offset` characters further on."""

    def __init__(self, top: bool, offset: int) -> None:
        self._top = top
        self._offset = offset

    def shape(self, raw: msgspec.Raw) -> bytes:
        """JSON, or empty when the engine gave none."""
        given = msgspec.json.decode(raw, type=Legacy)
        given.text_offset = [offset + self._offset for offset in given.text_offset]
        if not self._top:
            given.top_logprobs = None
        return msgspec.json.encode(given) if given.tokens else b""


def shaped(generation: Generation, name: str, context: int, *, tools: bool) -> Shaped:
    """The request to the model or adapter `name`; `tools`: whether the model is told of tools.

    Raises InvalidValue, MissingParameter and UnsupportedParameter.
    """
    body = generation.body
    if generation.kind == "chat":
        made = shape.chat(body, tools=tools, context=context)
        logprobs: Logprobs | None = made.logprobs
    else:
        made = shape.completion(body, 0, context=context)
        top = body.get("logprobs")
        asked = made.logprobs is not None
        logprobs = OffsetLogprobs(bool(top), len(generation.resume)) if asked else None
    # vLLM refuses to be allowed more than the whole context, where others stop at its end.
    limits = {key: min(made.body[key], context) for key in LIMITS if made.body.get(key)}
    own = {key: body[key] for key in OWN if key in body}
    return Shaped(
        {**made.body, **own, **limits, **COUNTS, "model": name},
        logprobs,
        made.forced,
        made.schema_param,
        made.echo,
    )


def go_on_behind(body: dict[str, Any], resume: str, ids: Sequence[int]) -> None:
    """Change `body` so that generation goes on behind `resume`, whose tokens are `ids`."""
    messages = body.get("messages")
    if messages is not None:
        if not body.get("continue_final_message"):
            body["messages"] = [*messages, {"role": "assistant", "content": ""}]
        body["continue_final_message"] = True
        body["add_generation_prompt"] = False
    continue_behind(body, resume, len(ids), ids)
