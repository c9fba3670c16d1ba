"""What the transformers engine takes and gives: `python -m tests.bench.transformers_check`.

TEST_VLLM_PYTHON names the interpreter with torch, else `make test-vllm` has installed one.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from shared.estimate import estimate
from shared.load import load_of
from shared.settings import Model, Settings
from shared.weights import read
from tests.asking import ask
from tests.server import temporary_home
from tests.transformers.conftest import engine
from tests.vllm import place
from tests.vllm.made import CONTEXT
from worker.memory import held

TOKENS = 64
MIB = 1 << 20


async def measure(home: Path) -> None:
    base = engine(home)
    model = Model(engine="transformers", weights=str(place.weights()), context=CONTEXT)
    expected = estimate(read(place.weights()), load_of(model, Settings()))
    began = time.monotonic()
    await base.start()
    print(f"start: {time.monotonic() - began:.1f} s")
    try:
        (pid,) = base.pids()
        loaded = held([pid]).bytes
        print(f"loaded: {loaded / MIB:.0f} MiB, estimate {size(expected.total - expected.filling)}")
        for streams in (1, 4):
            began = time.monotonic()
            asked = [ask(base, max_tokens=TOKENS, ignore_eos=True) for _ in range(streams)]
            await asyncio.gather(*asked)
            spent = time.monotonic() - began
            print(f"{streams} at once: {streams * TOKENS / spent:.1f} tokens/s, prompts included")
        long = [ask(base, prompt="a " * 800, max_tokens=200, ignore_eos=True) for _ in range(4)]
        await asyncio.gather(*long)
        print(f"used: {held([pid]).bytes / MIB:.0f} MiB, estimate {size(expected.total)}")
    finally:
        await base.stop()


def size(number: int) -> str:
    return f"{number / MIB:.0f} MiB"


def main() -> None:
    with temporary_home() as home:
        asyncio.run(measure(home))


if __name__ == "__main__":
    main()
