"""Counts the tokens of a file as its base reads them, and trains nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from trainer.child.rows import Taken, shorten, size, whole
from trainer.child.words import Words
from trainer.dataset import FINDINGS, Finding, examples
from trainer.example import Unusable
from trainer.survey import Question, Survey, bucket, percentile


def survey(asked: Question) -> Survey:
    """Of a file that was inspected before; raises UnfitError, Unusable and OSError."""
    words = Words(Path(asked.base))
    found, taken, lengths = Survey(), Taken(), Counter[int]()
    for number, example in examples(Path(asked.file), asked.method):
        try:
            rows = whole(words, example, asked.method)
        except Unusable as error:
            refuse(found, number, error)
            continue
        found.examples += 1
        for row in rows:
            shorten(row, asked.max_length, taken)
            lengths[bucket(size(row))] += 1
            found.longest = max(found.longest, size(row))
    found.samples, found.tokens, found.learned = taken.samples, taken.tokens, taken.learned
    found.truncated, found.dropped = taken.truncated, taken.dropped
    found.p50, found.p99 = percentile(lengths, 0.5), percentile(lengths, 0.99)
    return found


def refuse(found: Survey, number: int, error: Unusable) -> None:
    found.errors += 1
    if len(found.findings) < FINDINGS:
        fault = error.fault
        found.findings.append(
            Finding(
                level="error",
                code=fault.code,
                line=number,
                message=fault.message,
                param=fault.param,
            )
        )
