"""What an engine says when it refuses, as one of our errors. Pure."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from shared.errors import (
    ContextLengthExceeded,
    EngineFailed,
    HubError,
    InvalidValue,
    ModelUnavailable,
    Unavailable,
)

Subject = Literal["messages", "prompt", "input"]
PATH = re.compile(r"(?<![\w#:/.])/(?:[\w.+-]+/)+[\w.+-]*")
SCHEMA = re.compile(r"grammar|schema|response_format", re.IGNORECASE)
FIELD = re.compile(r"Field '(\w+)': (?:\[json[^\]]*\] )?(.*)")
LONGEST_MESSAGE = 400


class Complaint(msgspec.Struct):
    """The `error` object of llama.cpp, vLLM and OpenAI; `code` is whatever they like."""

    message: str = ""
    type: str | None = None
    code: int | str | None = None
    n_prompt_tokens: int | None = None
    n_ctx: int | None = None


class Envelope(msgspec.Struct):
    error: Complaint | str | None = None
    message: str | None = None


def clean(message: str) -> str:
    """One short line without paths of the machine."""
    line = " ".join(PATH.sub("[path]", message).split())
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 1] + "…"


def complaint(body: bytes) -> Complaint:
    """Read an error body; an unreadable one gives an empty complaint."""
    try:
        envelope = msgspec.json.decode(body, type=Envelope)
    except msgspec.MsgspecError:
        return Complaint()
    if isinstance(envelope.error, Complaint):
        return envelope.error
    return Complaint(message=envelope.error or envelope.message or "")


def too_long(limit: int, tokens: int, subject: Subject, where: str = "") -> ContextLengthExceeded:
    """OpenAI's sentence, with both numbers. `where` names one input among several."""
    noun = {"messages": "messages", "prompt": "prompt", "input": "input"}[subject]
    named = f" ({where})" if where else ""
    return ContextLengthExceeded(
        f"This model's maximum context length is {limit} tokens. However, your {noun}{named}"
        f" resulted in {tokens} tokens. Please reduce the length of the {noun}.",
        param=where or subject,
    )


def from_status(
    status: int, body: bytes, subject: Subject, schema_param: str = "response_format"
) -> HubError:
    """The error behind a reply that is not 200. `schema_param`: where a schema came from."""
    said = complaint(body)
    if status in (400, 413, 422):
        return from_client_fault(said, subject, schema_param)
    if status in (401, 403):
        return EngineFailed("The engine refused the hub's own credentials.")
    if status == 404:
        return ModelUnavailable("The engine does not know this model or endpoint.")
    if status in (429, 503):
        return Unavailable(f"The engine is overloaded. {clean(said.message)}".strip())
    if SCHEMA.search(said.message):
        return from_client_fault(said, subject, schema_param)
    return EngineFailed(f"The engine failed. {clean(said.message)}".strip())


def from_client_fault(said: Complaint, subject: Subject, schema_param: str) -> HubError:
    if said.n_ctx is not None and said.n_prompt_tokens is not None:
        return too_long(said.n_ctx, said.n_prompt_tokens, subject)
    message = clean(said.message) or "The engine refused the request."
    if said.code == "context_length_exceeded" or "maximum context length" in message:
        return ContextLengthExceeded(message, param=subject)
    if SCHEMA.search(message):
        fault = message.rpartition("JSON schema error")
        return InvalidValue(f"Invalid schema: {fault[1]}{fault[2]}", param=schema_param)
    field = FIELD.match(message)
    if field is not None:
        return InvalidValue(f"Invalid value: {field[2]}", param=field[1])
    return InvalidValue(message, param=subject)


def from_stream(
    said: Complaint, subject: Subject, schema_param: str = "response_format"
) -> HubError:
    """The error behind an event of a stream that had begun."""
    if said.code == 400:
        return from_client_fault(said, subject, schema_param)
    if said.n_ctx is not None and said.n_prompt_tokens is not None:
        return too_long(said.n_ctx, said.n_prompt_tokens, subject)
    return EngineFailed(f"The engine failed. {clean(said.message)}".strip())


def check_ids(ids: list[int], vocabulary: int, param: str) -> None:
    """Raises InvalidValue for a token id the model does not have."""
    wrong = next((number for number in ids if not 0 <= number < vocabulary), None)
    if wrong is not None:
        raise InvalidValue(
            f"Token id {wrong} is out of range; this model knows 0 to {vocabulary - 1}.",
            param=param,
        )
