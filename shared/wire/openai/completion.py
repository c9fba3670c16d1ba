"""POST /v1/completions."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.errors import InvalidType, InvalidValue, UnsupportedParameter
from shared.wire.openai import error
from shared.wire.openai.sampling import (
    Choices,
    Count,
    LogitBias,
    Penalty,
    Probability,
    Seed,
    Stop,
    StreamOptions,
    Temperature,
    TokenId,
    check_stream_options,
)
from shared.wire.openai.usage import Usage

MOST_CHOICES = 64
"""Prompts times `n` of one request."""

TokenIds = Annotated[list[TokenId], Meta(min_length=1)]


class CompletionRequest(msgspec.Struct, kw_only=True):
    model: str
    prompt: str | Annotated[list[str | TokenId | TokenIds], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Choices | None = None
    best_of: Count | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    max_tokens: Count | None = None
    stop: Stop | None = None
    seed: Seed | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    logit_bias: LogitBias | None = None
    echo: bool | None = None
    suffix: str | None = None
    user: str | None = None

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)


decoder = msgspec.json.Decoder(CompletionRequest)


def decode(body: bytes) -> CompletionRequest:
    """A request that holds by itself; raises InvalidRequest."""
    request = error.decode(decoder, body)
    check_stream_options(request.stream, request.stream_options)
    choices = count_inputs(request.prompt, "prompt") * (request.n or 1)
    if choices > MOST_CHOICES:
        raise InvalidValue(
            f"Prompts times 'n' is {choices}; at most {MOST_CHOICES} are allowed.", param="prompt"
        )
    if request.best_of not in (None, request.n or 1):
        raise UnsupportedParameter("'best_of' other than 'n' is not supported.", param="best_of")
    for name in ("echo", "suffix"):
        if getattr(request, name):
            raise UnsupportedParameter(f"'{name}' is not supported.", param=name)
    return request


def count_inputs(given: str | list[str | int | list[int]], name: str) -> int:
    """How many texts a request holds: one string, strings, one token array, or token arrays."""
    if isinstance(given, str):
        return 1
    kinds = {type(element) for element in given}
    if len(kinds) > 1:
        raise InvalidType(
            f"Invalid type for '{name}': strings, token ids and token arrays cannot be mixed.",
            param=name,
        )
    return 1 if kinds == {int} else len(given)


class ReplyChoice(msgspec.Struct, kw_only=True):
    text: str
    index: int
    logprobs: msgspec.Raw | None
    finish_reason: str


class Completion(msgspec.Struct, kw_only=True):
    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[ReplyChoice]
    usage: Usage
    system_fingerprint: str
