"""The embedded engine's embeddings on real weights, in its real child process."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.errors import ContextLengthExceeded, HubError, InvalidValue, UnsupportedParameter
from tests import models
from tests.integration.llamacpp import engine
from worker.engines.llamacpp import LlamaCpp

REFERENCE: dict[str, str] = json.loads(Path(__file__).with_name("minilm.json").read_bytes())
"""Texts and their float64 vectors, recorded by `python -m tests.bench.embeddings --record`."""


@pytest.fixture
async def embedding(lent: Path) -> AsyncIterator[LlamaCpp]:
    made = engine(lent, models.EMBEDDING)
    await made.start()
    yield made
    await made.stop()


async def test_embeddings_equal_the_reference(embedding: LlamaCpp) -> None:
    texts = list(REFERENCE) * 20
    vectors = await embedding.embed(texts, None)
    rows = np.frombuffer(vectors.data, "<f4").reshape(vectors.count, vectors.width)
    assert rows.shape == (len(texts), 384)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    expected = np.stack([np.frombuffer(b64decode(row), "<f4") for row in REFERENCE.values()])
    assert np.min(np.sum(rows[: len(expected)] * expected, axis=1)) > 0.9999
    assert np.allclose(rows[-len(expected) :], rows[: len(expected)], atol=1e-3)
    assert rows[0] @ rows[1] > 0.7 > 0.1 > rows[0] @ rows[2]
    one = await embedding.embed([texts[0]], 384)
    assert one.usage.prompt == 8


async def test_foreign_ids_are_read_as_cl100k(embedding: LlamaCpp) -> None:
    by_text = await embedding.embed(["Hello world"], None)
    by_ids = await embedding.embed([[9906, 1917]], None)
    assert by_ids == by_text


@pytest.mark.parametrize(
    ("inputs", "dimensions", "error", "param"),
    [
        (["x", "hi " * 600], None, ContextLengthExceeded, "input[1]"),
        ([[1], [100256]], None, InvalidValue, "input[1]"),
        (["x"], 128, UnsupportedParameter, "dimensions"),
    ],
)
async def test_embedding_refusals(
    embedding: LlamaCpp, inputs: Any, dimensions: int | None, error: type[HubError], param: str
) -> None:
    with pytest.raises(error) as caught:
        await embedding.embed(inputs, dimensions)
    assert caught.value.param == param


async def test_own_ids(lent: Path) -> None:
    made = engine(lent, models.EMBEDDING, token_input="own")
    await made.start()
    try:
        by_ids = await made.embed([[101, 7592, 2088, 102]], None)
        by_text = await made.embed(["hello world"], None)
        assert by_ids.data == by_text.data
        with pytest.raises(InvalidValue):
            await made.embed([[30522]], None)
    finally:
        await made.stop()
