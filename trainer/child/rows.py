"""Examples as rows of tokens, cut at a length, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer.child.words import IGNORED, Words
from trainer.dataset import examples
from trainer.example import Example, Unusable
from trainer.plan import Method

Row = dict[str, list[int]]
"""`ids` and `labels`, or `prompt`, `chosen` and `rejected`."""


@dataclass
class Taken:
    """What became of the examples of one file."""

    samples: int = 0
    truncated: int = 0
    """Samples cut at the length."""
    dropped: int = 0
    """Samples left out: nothing to learn was before the cut."""
    tokens: int = 0
    """That one epoch reads."""
    learned: int = 0


def rows(file: Path, method: Method, words: Words, length: int, taken: Taken) -> Iterator[Row]:
    """In the columns that trl's collators read. Raises Unusable with the line's number, OSError."""
    for number, example in examples(file, method):
        try:
            made = whole(words, example, method)
        except Unusable as error:
            fault = error.fault
            raise Unusable(fault.code, f"Line {number}: {fault.message}", fault.param) from error
        for row in made:
            cut = shorten(row, length, taken)
            if cut is not None:
                yield cut


def whole(words: Words, example: Example, method: Method) -> list[Row]:
    """Uncut; raises Unusable."""
    if method == "supervised":
        return [{"ids": each.ids, "labels": each.labels} for each in words.samples(example)]
    pair = words.pair(example)
    return [{"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}]


def size(row: Row) -> int:
    """Tokens of its longest sequence."""
    if "ids" in row:
        return len(row["ids"])
    return len(row["prompt"]) + max(len(row["chosen"]), len(row["rejected"]))


def shorten(row: Row, length: int, taken: Taken) -> Row | None:
    """The row as it is trained on, counted; None where nothing to learn is left."""
    if "ids" in row:
        made = {"input_ids": row["ids"][:length], "labels": row["labels"][:length]}
        tokens = len(made["input_ids"])
        learned = sum(label != IGNORED for label in made["labels"])
    else:
        room = max(0, length - len(row["prompt"]))
        chosen, rejected = row["chosen"][:room], row["rejected"][:room]
        made = {"prompt_ids": row["prompt"], "chosen_ids": chosen, "rejected_ids": rejected}
        learned = len(chosen) + len(rejected)
        tokens = 2 * len(row["prompt"]) + learned
    taken.truncated += size(row) > length
    if not learned:
        taken.dropped += 1
        return None
    taken.samples += 1
    taken.tokens += tokens
    taken.learned += learned
    return made
