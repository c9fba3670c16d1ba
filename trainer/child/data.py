"""A training file as a table of tokens on disk: its size in memory does not grow with the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value
from datasets.arrow_writer import ArrowWriter

from trainer.child.rows import Taken, rows
from trainer.child.words import Words
from trainer.example import Unusable
from trainer.plan import Method

COLUMNS: dict[Method, tuple[str, ...]] = {
    "supervised": ("input_ids", "labels"),
    "dpo": ("prompt_ids", "chosen_ids", "rejected_ids"),
}


def table(file: Path, method: Method, words: Words, length: int, target: Path) -> tuple[Any, Taken]:
    """Written to `target`; raises Unusable with the line's number, and OSError."""
    taken = Taken()
    features = Features({name: List(Value("int32")) for name in COLUMNS[method]})
    with ArrowWriter(features=features, path=str(target)) as writer:
        for row in rows(file, method, words, length, taken):
            writer.write(row)
        if taken.samples:
            writer.finalize()
    if not taken.samples:
        raise Unusable("nothing_to_learn", f"Nothing of {file.name} is left to learn.")
    return Dataset.from_file(str(target)), taken
