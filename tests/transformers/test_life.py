"""Start, memory, death and end of children of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from base64 import b64decode
from pathlib import Path

import numpy as np
import openai
import pytest

from shared.errors import ContextLengthExceeded, EngineFailed, InvalidValue, UnsupportedParameter
from shared.estimate import estimate
from shared.load import load_of
from shared.settings import Model, Settings
from shared.weights import read
from tests import adapters
from tests.asking import Watched, ask, generation
from tests.hub import running_hub
from tests.transformers import place as folders
from tests.transformers.conftest import engine
from tests.vllm import place
from tests.vllm.made import CONTEXT
from worker.engines.base import EngineLost
from worker.engines.group import members

REFERENCE: dict[str, str] = json.loads(
    (Path(__file__).parents[1] / "integration" / "minilm.json").read_bytes()
)
WITHIN = 0.05


def held(pid: int) -> int:
    """RSS in bytes: PSS would depend on who else has the weights' file and the libraries mapped."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss:"))


async def test_memory_death_and_end(tmp_path: Path) -> None:
    base = engine(tmp_path)
    starting = asyncio.create_task(base.start())
    seen = {}
    while not starting.done():
        if (progress := base.progress()) is not None:
            seen[progress.phase] = progress.read / max(progress.total, 1)
        await asyncio.wait({starting}, timeout=0.02)
    await starting
    assert list(seen) == ["starting torch", "reading weights", "warming up"]
    assert seen["warming up"] > 0.5
    assert base.progress() is None
    (pid,) = base.pids()
    model = Model(engine="transformers", weights=str(place.weights()), context=CONTEXT)
    expected = estimate(read(place.weights()), load_of(model, Settings()))
    loaded = held(pid)
    assert loaded == pytest.approx(expected.total - expected.filling, rel=WITHIN)
    await asyncio.gather(*(ask(base, prompt="a " * 900, max_tokens=8) for _ in range(2)))
    assert loaded < held(pid) <= expected.total * (1 + WITHIN)
    before, rest = Watched(), asyncio.create_task(base.ended())
    task = asyncio.create_task(base.generate(generation(max_tokens=40), before))
    async with asyncio.timeout(30):
        await before.begun.wait()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EngineLost):
            await task
        await rest
    assert not base.alive
    assert not before.reasons
    with pytest.raises(EngineLost):
        await ask(base, max_tokens=1)
    await base.start()
    whole, _ = await ask(base, max_tokens=40)
    after, usage = await ask(base, max_tokens=40, resume=before.content)
    assert before.content + after.content == whole.content
    assert usage.completion == 40
    group = os.getpgid(base.pids()[0])
    await base.stop()
    assert base.pids() == members(group) == []
    assert list((tmp_path / "run").glob("torch-*")) == []
    await base.stop()


async def test_why_it_does_not_start(home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    broken = engine(home, weights=str(tmp_path / "empty"))
    with pytest.raises(EngineFailed, match="last words") as caught:
        await broken.start()
    assert str(tmp_path) not in caught.value.message
    assert not broken.alive
    assert broken.pids() == []
    missing = engine(home, python=str(tmp_path / "python"))
    with pytest.raises(EngineFailed, match="no interpreter"):
        await missing.start()
    long = engine(home, context=100_000)
    with pytest.raises(EngineFailed, match="context is 100000, and the model takes 8192 tokens"):
        await long.start()


async def test_embeddings(home: Path) -> None:
    made = engine(home, weights=str(folders.sentence_encoder()), kind="embedding", context=512)
    await made.start()
    try:
        texts = list(REFERENCE)
        vectors = await made.embed(texts, None)
        rows = np.frombuffer(vectors.data, np.float32).reshape(len(texts), vectors.width)
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        for text, row in zip(texts, rows, strict=True):
            expected = np.frombuffer(b64decode(REFERENCE[text]), np.float32)
            assert float(row @ expected) > 0.9999, text
        one = await made.embed([[101, 2023, 102]], 384)
        assert one.usage.prompt == 3
        with pytest.raises(UnsupportedParameter):
            await made.embed(["a"], 100)
        with pytest.raises(ContextLengthExceeded) as caught:
            await made.embed(["a", "word " * 600], None)
        assert caught.value.param == "input[1]"
        with pytest.raises(InvalidValue) as wrong:
            await made.embed([[101, 99999]], None)
        assert wrong.value.param == "input[0]"
    finally:
        await made.stop()


def test_the_whole_hub(tmp_path: Path) -> None:
    lora = adapters.save(tmp_path / "lora", 1, adapters.matrices(1, strength=0.5))
    toml = (
        f'[models.smol]\nengine = "transformers"\nweights = "{place.weights()}"\n'
        f'python = "{place.python()}"\ncontext = 1024\nthreads = 1\n'
        f'[models.smol.adapters]\nmine = "{lora}"\n'
    )
    with running_hub(toml) as hub, openai.OpenAI(base_url=hub.base_url, api_key=hub.key) as client:
        asked = {"role": "user", "content": "What is the capital of France?"}
        stream = client.chat.completions.create(
            model="smol",
            messages=[asked],  # type: ignore[list-item]
            temperature=0,
            max_tokens=12,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
        text = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
        assert "Paris" in text
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens > 3
        other = client.chat.completions.create(
            model="mine",
            messages=[asked],  # type: ignore[list-item]
            temperature=0,
            max_tokens=12,
        )
        assert other.choices[0].message.content != text
        with pytest.raises(openai.BadRequestError) as caught:
            client.completions.create(model="smol", prompt="hi " * 3000)
        assert caught.value.code == "context_length_exceeded"
