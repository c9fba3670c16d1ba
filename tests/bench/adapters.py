"""Adapters in rotation through the whole hub, with room for all of them and for fewer.

`python -m tests.bench.adapters [SECONDS]`: four clients ask for one adapter after another, 12
tokens each; what is printed is for a load that takes a new child of the embedded engine.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import openai

from tests import adapters
from tests.hub import Hub, running_hub

IN_ROTATION = 6
CLIENTS = 4
TOML = """
[models.base]
engine = "llamacpp"
file = "smollm2-135m-instruct.q8_0.gguf"
context = 512
threads = 1
loaded_adapters = {bound}

[models.base.adapters]
{listed}
"""


async def rotate(hub: Hub, seconds: float) -> list[float]:
    """Seconds that each answer took, of those asked for in that time."""
    took: list[float] = []
    end = time.monotonic() + seconds

    async def ask(client: openai.AsyncOpenAI, first: int) -> None:
        number = first
        while time.monotonic() < end:
            began = time.monotonic()
            await client.chat.completions.create(
                model=f"a{number % IN_ROTATION}",
                messages=[{"role": "user", "content": "Count from one to twenty."}],
                max_tokens=12,
            )
            took.append(time.monotonic() - began)
            number += 1

    async with openai.AsyncOpenAI(base_url=hub.base_url, api_key=hub.key, max_retries=0) as client:
        await asyncio.gather(*(ask(client, number) for number in range(CLIENTS)))
    return took


def measure(folder: Path, bound: int, seconds: float) -> str:
    listed = "\n".join(f'a{number} = "{folder}/{number}"' for number in range(IN_ROTATION))
    with running_hub(TOML.format(bound=bound, listed=listed)) as hub:
        asyncio.run(rotate(hub, 2))
        took = sorted(asyncio.run(rotate(hub, seconds)))
    middle, most = took[len(took) // 2], took[-1]
    return f"| {bound} | {len(took) / seconds:.2f} | {middle:.2f} | {most:.2f} |"


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    with TemporaryDirectory() as made:
        folder = Path(made)
        for number in range(IN_ROTATION):
            adapters.save(folder / str(number), seed=number)
        print(f"{IN_ROTATION} adapters in rotation, {CLIENTS} clients, {seconds:g} s each")
        print("| loaded_adapters | answers per second | p50 s | longest s |")
        print("|---|---|---|---|")
        for bound in (IN_ROTATION, IN_ROTATION - 1, IN_ROTATION // 2, 1):
            print(measure(folder, bound, seconds), flush=True)


if __name__ == "__main__":
    main()
