"""A base of two layers with the real tokenizer: a job of it takes seconds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.training.job import asked
from tests.vllm import place

TINY = Path(__file__).parents[1] / "transformers" / "tiny.py"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "tiny"
    made = [place.python(), TINY, str(place.weights()), str(folder), "llama"]
    subprocess.run(made, check=True, timeout=120)
    return folder


@pytest.fixture(scope="session")
def birds() -> list[dict[str, object]]:
    names = ("kestrel", "heron", "wren", "stork")
    return [
        asked(f"What lives in box {each}?", f"A {names[each % 4].upper()}-{each * 7} does.")
        for each in range(12)
    ]
