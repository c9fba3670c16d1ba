"""Models with windows are batched rightly, and those that cannot be batched are refused."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from shared.errors import EngineFailed
from tests.asking import ask
from tests.transformers.conftest import engine
from tests.vllm import place

TINY = Path(__file__).with_name("tiny.py")


async def made(folder: Path, family: str) -> Path:
    argv = [place.python(), str(TINY), str(place.weights()), str(folder), family]
    await asyncio.to_thread(subprocess.run, argv, check=True, timeout=60)
    return folder


async def test_windows(home: Path, tmp_path: Path) -> None:
    weights = await made(tmp_path / "w", "gemma3_text")
    small = engine(home, weights=str(weights), context=256)
    await small.start()
    try:
        prompts = ["One two three four five six seven", "Un", "Eins zwei drei vier"]
        asked = [{"prompt": prompt, "max_tokens": 12, "ignore_eos": True} for prompt in prompts]
        lone = [(await ask(small, **one))[0].content for one in asked]
        together = await asyncio.gather(*(ask(small, **one) for one in asked))
        assert [sink.content for sink, _ in together] == lone
        assert len(set(lone)) == 3
    finally:
        await small.stop()


async def test_what_cannot_be_batched_is_refused(home: Path, tmp_path: Path) -> None:
    weights = await made(tmp_path / "w", "bloom")
    why = "last words: UnfitError: it cannot be computed in a batch"
    with pytest.raises(EngineFailed, match=why):
        await engine(home, weights=str(weights), context=256).start()
