"""What vLLM says when it refuses, as one of our errors. Pure."""

from __future__ import annotations

import re

import msgspec

from shared.errors import HubError, InvalidValue
from worker.engines.refusal import Subject, clean, from_status

TOO_LONG = re.compile(r"maximum context length is (\d+) tokens")
PLACE = re.compile(r" \(parameter=\w+, value=.*\)$", re.DOTALL)
CLIENT_FAULT = 400


class Complaint(msgspec.Struct):
    message: str = ""
    param: str | None = None


class Envelope(msgspec.Struct):
    error: Complaint = msgspec.field(default_factory=Complaint)


def complaint(body: bytes) -> Complaint:
    """Read an error body; an unreadable one gives an empty complaint."""
    try:
        return msgspec.json.decode(body, type=Envelope).error
    except msgspec.MsgspecError:
        return Complaint()


def limit_of(body: bytes) -> int | None:
    """The tokens the model takes, when the complaint is that there are more; else None."""
    found = TOO_LONG.search(complaint(body).message)
    return int(found[1]) if found else None


def refusal(status: int, body: bytes, subject: Subject, schema_param: str) -> HubError:
    """The error behind a reply that is not 200. `schema_param`: where a schema came from."""
    said = complaint(body)
    message = clean(PLACE.sub("", said.message))
    if status == CLIENT_FAULT and said.param:
        return InvalidValue(message, param=said.param)
    if status == CLIENT_FAULT and "out of vocabulary" in message:
        return InvalidValue(f"{message}.", param=subject)
    return from_status(status, body, subject, schema_param)
