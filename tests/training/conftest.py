"""A base of two layers with the real tokenizer: a job of it takes seconds."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub import Hub, running_hub
from tests.training.job import asked
from tests.vllm import place

TINY = Path(__file__).parents[1] / "transformers" / "tiny.py"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "tiny"
    made = [place.python(), TINY, str(place.weights()), str(folder), "llama"]
    subprocess.run(made, check=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def hub(tiny: Path) -> Iterator[Hub]:
    """One that serves and fine-tunes it, for each file anew: some break it."""
    toml = f"""
train_python = "{place.python()}"
[models.tiny]
engine = "transformers"
weights = "{tiny}"
python = "{place.python()}"
context = 512
threads = 1
"""
    with running_hub(toml) as hub:
        yield hub


@pytest.fixture(scope="session")
def birds() -> list[dict[str, object]]:
    names = ("kestrel", "heron", "wren", "stork")
    return [
        asked(f"What lives in box {each}?", f"A {names[each % 4].upper()}-{each * 7} does.")
        for each in range(12)
    ]
