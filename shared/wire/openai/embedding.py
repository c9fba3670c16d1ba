"""POST /v1/embeddings."""

from __future__ import annotations

import binascii
from array import array
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.errors import InvalidValue
from shared.wire.event import Vectors
from shared.wire.openai import error
from shared.wire.openai.completion import TokenIds, count_inputs
from shared.wire.openai.sampling import Count, TokenId
from shared.wire.openai.usage import EmbeddingUsage

MOST_INPUTS = 2048
FLOAT32 = 4
"""Bytes of one component."""


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    model: str
    input: (
        Annotated[str, Meta(min_length=1)]
        | Annotated[
            list[Annotated[str, Meta(min_length=1)] | TokenId | TokenIds], Meta(min_length=1)
        ]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Count | None = None
    user: str | None = None


decoder = msgspec.json.Decoder(EmbeddingRequest)


def decode(body: bytes) -> EmbeddingRequest:
    """A request that holds by itself; raises InvalidRequest."""
    request = error.decode(decoder, body)
    count = count_inputs(request.input, "input")
    if count > MOST_INPUTS:
        raise InvalidValue(
            f"'input' holds {count} texts; at most {MOST_INPUTS} are allowed.", param="input"
        )
    return request


class Embedding(msgspec.Struct, kw_only=True):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingList(msgspec.Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


def from_vectors(vectors: Vectors, model: str, encoding: str | None) -> EmbeddingList:
    """`encoding` base64 gives little-endian float32, anything else a list of numbers."""
    size = vectors.width * FLOAT32
    rows = [vectors.data[start : start + size] for start in range(0, vectors.count * size, size)]
    data = [
        Embedding(
            index=index,
            embedding=binascii.b2a_base64(row, newline=False).decode()
            if encoding == "base64"
            else array("f", row).tolist(),
        )
        for index, row in enumerate(rows)
    ]
    prompt = vectors.usage.prompt
    return EmbeddingList(data=data, model=model, usage=EmbeddingUsage(prompt, prompt))
