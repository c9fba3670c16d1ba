"""A training file as a table of tokens on disk: its size in memory does not grow with the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value
from datasets.arrow_writer import ArrowWriter

from trainer.child.words import Words
from trainer.dataset import examples
from trainer.example import Unusable
from trainer.plan import Method

COLUMNS: dict[Method, tuple[str, ...]] = {
    "supervised": ("input_ids", "labels"),
    "dpo": ("prompt_ids", "chosen_ids", "rejected_ids"),
}


@dataclass
class Taken:
    """What became of the examples of one file; a sample is one row of the table."""

    samples: int = 0
    truncated: int = 0
    """Samples cut at the length."""
    dropped: int = 0
    """Samples left out: nothing to learn was before the cut."""
    tokens: int = 0
    """That one epoch reads."""
    learned: int = 0


Row = dict[str, list[int]]


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


def rows(file: Path, method: Method, words: Words, length: int, taken: Taken) -> Iterator[Row]:
    """Raises Unusable, OSError."""
    for number, example in examples(file, method):
        try:
            made = (
                [supervised(sample.ids, sample.labels) for sample in words.samples(example)]
                if method == "supervised"
                else [vars(words.pair(example))]
            )
        except Unusable as error:
            fault = error.fault
            raise Unusable(fault.code, f"Line {number}: {fault.message}", fault.param) from error
        for row in made:
            cut = shorten(row, length, taken)
            if cut is not None:
                yield cut


def supervised(ids: list[int], labels: list[int]) -> Row:
    return {"ids": ids, "labels": labels}


def shorten(row: Row, length: int, taken: Taken) -> Row | None:
    """The row as it is trained on, counted; None where nothing to learn is left."""
    if "labels" in row:
        full, ids, labels = len(row["ids"]), row["ids"][:length], row["labels"][:length]
        learned = sum(label >= 0 for label in labels)
        size, made = len(ids), {"input_ids": ids, "labels": labels}
    else:
        room = max(0, length - len(row["prompt"]))
        both = [row["chosen"][:room], row["rejected"][:room]]
        full = len(row["prompt"]) + max(len(row["chosen"]), len(row["rejected"]))
        learned = sum(map(len, both))
        size = 2 * len(row["prompt"]) + learned
        made = {"prompt_ids": row["prompt"], "chosen_ids": both[0], "rejected_ids": both[1]}
    taken.truncated += full > length
    if not learned:
        taken.dropped += 1
        return None
    taken.samples += 1
    taken.tokens += size
    taken.learned += learned
    return made
