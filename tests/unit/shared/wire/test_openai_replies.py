"""Replies that are put together here, not by an engine."""

from __future__ import annotations

import base64
import json
import struct

from shared.errors import InvalidValue
from shared.wire.event import Usage, Vectors
from shared.wire.openai import embedding, error, usage
from tests.contract import schema

ROWS = [(0.5, -0.25), (1.0, 0.0)]
VECTORS = Vectors(2, 2, b"".join(struct.pack("<2f", *row) for row in ROWS), Usage(prompt=7))


def test_vectors_as_numbers() -> None:
    found = embedding.from_vectors(VECTORS, "m", "float")
    assert [tuple(row.embedding) for row in found.data] == ROWS
    assert [row.index for row in found.data] == [0, 1]
    assert (found.usage.prompt_tokens, found.usage.total_tokens) == (7, 7)


def test_vectors_as_base64_are_little_endian_float32() -> None:
    found = embedding.from_vectors(VECTORS, "m", "base64")
    assert [
        struct.unpack("<2f", base64.b64decode(str(row.embedding))) for row in found.data
    ] == ROWS


def test_an_error_has_all_four_keys() -> None:
    body = error.encode(InvalidValue("No.", param="n").failed())
    schema.check("ErrorResponse", json.loads(body))
    assert json.loads(body)["error"] == {
        "message": "No.",
        "type": "invalid_request_error",
        "param": "n",
        "code": "invalid_value",
    }


def test_usage_adds_up() -> None:
    counted = usage.from_event(Usage(prompt=5, completion=3, cached=4, reasoning=1))
    assert counted.total_tokens == 8
    assert counted.prompt_tokens_details.cached_tokens == 4
    assert counted.completion_tokens_details.reasoning_tokens == 1
