"""What Ollama says when it refuses, as one of our errors. Pure."""

from __future__ import annotations

import re

from shared.errors import (
    ContextLengthExceeded,
    EngineFailed,
    HubError,
    InvalidValue,
    ModelUnavailable,
    Unavailable,
    UnsupportedValue,
)
from worker.engines.refusal import SCHEMA, Subject, clean, complaint

TOO_LONG = re.compile(r"context length|exceeds the available context|maximum context")
INCAPABLE = re.compile(r"does not support (chat|generate|tools|thinking|insert|embed\w*)")
PARAMS = {"tools": "tools", "thinking": "reasoning_effort", "insert": "suffix"}


def from_reply(
    status: int, body: bytes, subject: Subject, schema_param: str = "response_format"
) -> HubError:
    """The error behind a reply that is not 200. `schema_param`: where a schema came from."""
    message = clean(complaint(body).message)
    if status == 404:
        return ModelUnavailable(f"Ollama does not have this model. {message}".strip())
    if status in (401, 403):
        return EngineFailed(f"Ollama refused the hub. {message}".strip())
    if status in (429, 503):
        return Unavailable(f"Ollama is overloaded. {message}".strip())
    if TOO_LONG.search(message):
        return ContextLengthExceeded(
            f"This is longer than the model's context. {message}", param=subject
        )
    incapable = INCAPABLE.search(message)
    if incapable is not None:
        param = PARAMS.get(incapable[1], "model")
        return UnsupportedValue(f"This model {incapable[0]}.", param=param)
    if SCHEMA.search(message):
        return InvalidValue(f"Invalid schema: {message}", param=schema_param)
    if status == 400:
        return InvalidValue(message or "Ollama refused the request.", param=subject)
    return EngineFailed(f"Ollama failed. {message}".strip())


def from_line(message: str, subject: Subject) -> HubError:
    """The error behind a line of a stream that had begun."""
    if TOO_LONG.search(message):
        return ContextLengthExceeded(clean(message), param=subject)
    return EngineFailed(f"Ollama failed. {clean(message)}".strip())
