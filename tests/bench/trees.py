"""Checkouts of the hub side by side: what a request costs in each, and under limits and budgets in
all but the first.

`python -m tests.bench.trees FOLDER…`: the first folder is what the others are compared with, for
instance `git worktree add ../before COMMIT`. Each runs its own hub; the loads go to them in turns,
and the middle round counts, so that a noisy machine disturbs all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.bench.figures import table

SIDE = Path(__file__).with_name("side.py")
WHOLE = ("--stream", "0", "--tokens", "50", "--connections")


class Load(NamedTuple):
    name: str
    model: str
    which: str
    requests: int
    flags: tuple[str, ...]


LOADS = (
    Load("JSON, 1 connection", "instant", "total_ms", 1_000, (*WHOLE, "1")),
    Load("JSON, 32 connections", "instant", "total_ms", 1_000, (*WHOLE, "32")),
    Load(
        "32 streams of 50 tokens, paced",
        "paced",
        "ttft_ms",
        128,
        ("--connections", "32", "--tokens", "50", "--ramp-ms", "200"),
    ),
    Load(
        "32 streams of 200 tokens, as fast as they go",
        "instant",
        "total_ms",
        150,
        ("--connections", "32", "--tokens", "200"),
    ),
)


class Side:
    """A checkout with its hub running."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, SIDE],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def run(self, key: str, load: Load) -> tuple[float, float]:
        """Milliseconds of the middle request, and CPU microseconds of each."""
        assert self._process.stdin is not None
        flags = (*load.flags, "--requests", str(load.requests))
        self._process.stdin.write(json.dumps([f"{key} {load.model}", load.which, *flags]) + "\n")
        self._process.stdin.flush()
        milliseconds, seconds = json.loads(self._read())
        return milliseconds, seconds / load.requests * 1e6

    def close(self) -> None:
        self._process.communicate(timeout=60)

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a hub did not start, or broke under its load")
        return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    folders = [folder.resolve() for folder in options.folders]
    sides = {folder: Side(folder) for folder in folders}
    keys = [(folder, "free") for folder in folders] + [(f, "limited") for f in folders[1:]]
    rows = []
    for load in LOADS:
        seen: dict[tuple[Path, str], list[tuple[float, float]]] = {key: [] for key in keys}
        for turn in range(options.rounds + 1):
            for folder, key in keys if turn % 2 else keys[::-1]:
                found = sides[folder].run(key, load)
                if turn:
                    seen[folder, key].append(found)
        first: tuple[float, float] | None = None
        for folder, key in keys:
            p50, cpu = (median(column) for column in zip(*seen[folder, key], strict=True))
            first = first or (p50, cpu)
            row = [load.name, f"{folder.name}, {key}", p50, p50 / first[0], cpu, cpu / first[1]]
            rows.append(row)
    for side in sides.values():
        side.close()
    head = ["load", "checkout, key", "p50 ms", "ratio", "CPU µs each", "ratio"]
    print(table("What a request costs", head, rows))


if __name__ == "__main__":
    main()
