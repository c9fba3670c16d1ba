"""POST /v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from shared.errors import InvalidRequest, InvalidValue, UnsupportedParameter, UnsupportedValue
from shared.wire.openai import error, message, tool
from shared.wire.openai.sampling import (
    Choices,
    Count,
    LogitBias,
    Penalty,
    Probability,
    Seed,
    ServiceTier,
    Stop,
    StreamOptions,
    Temperature,
    check_stream_options,
)
from shared.wire.openai.usage import Usage


class JsonSchema(msgspec.Struct):
    name: tool.Name
    schema: dict[str, msgspec.Raw]
    description: str | None = None
    strict: bool | None = None


class TextFormat(msgspec.Struct, tag_field="type", tag="text"):
    """Anything goes."""


class JsonFormat(msgspec.Struct, tag_field="type", tag="json_object"):
    """Some JSON object."""


class SchemaFormat(msgspec.Struct, tag_field="type", tag="json_schema"):
    """JSON that fits a schema."""

    json_schema: JsonSchema


class ChatRequest(msgspec.Struct, kw_only=True):
    """What the gateway checks; fields it does not know go to the worker as they came."""

    model: str
    messages: message.Messages
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Choices | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    stop: Stop | None = None
    seed: Seed | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    logit_bias: LogitBias | None = None
    response_format: TextFormat | JsonFormat | SchemaFormat | None = None
    tools: list[tool.Tool] | None = None
    tool_choice: str | tool.NamedTool | None = None
    parallel_tool_calls: bool | None = None
    functions: list[msgspec.Raw] | None = None
    function_call: str | dict[str, str] | None = None
    modalities: list[str] | None = None
    audio: dict[str, msgspec.Raw] | None = None
    service_tier: ServiceTier | None = None
    reasoning_effort: str | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)


decoder = msgspec.json.Decoder(ChatRequest)


def decode(body: bytes) -> ChatRequest:
    """A request that holds by itself; raises InvalidRequest."""
    request = error.decode(decoder, body)
    check_stream_options(request.stream, request.stream_options)
    message.check(request.messages)
    if request.tools is not None or request.tool_choice is not None:
        tool.check(request.tools or [], request.tool_choice)
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidValue("'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs")
    longest = {request.max_tokens, request.max_completion_tokens} - {None}
    if len(longest) == 2:
        raise InvalidRequest(
            "'max_tokens' and 'max_completion_tokens' differ; give one of them.",
            param="max_tokens",
        )
    check_retired(request)
    return request


def check_retired(request: ChatRequest) -> None:
    for name, successor in (("functions", "tools"), ("function_call", "tool_choice")):
        if getattr(request, name) is not None:
            raise UnsupportedParameter(
                f"'{name}' is not supported any more; use '{successor}'.", param=name
            )
    if request.audio is not None or "audio" in (request.modalities or ()):
        raise UnsupportedValue("This model answers in text only.", param="modalities")


class ReplyMessage(msgspec.Struct, kw_only=True):
    """`tool_calls` is JSON as the engine wrote it."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: str | None = None
    annotations: list[msgspec.Raw] = []
    reasoning_content: str | UnsetType = UNSET
    tool_calls: msgspec.Raw | UnsetType = UNSET


class ReplyChoice(msgspec.Struct, kw_only=True):
    index: int
    message: ReplyMessage
    logprobs: msgspec.Raw | None
    finish_reason: str


class ChatCompletion(msgspec.Struct, kw_only=True):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ReplyChoice]
    usage: Usage
    service_tier: str
    system_fingerprint: str
