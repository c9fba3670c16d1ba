"""A training file read line by line, checked and counted; what it keeps is bounded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from trainer.example import Example, Unusable, read
from trainer.plan import Method

LINE = 8 << 20
"""Bytes of the longest line."""
FINDINGS = 100
"""Errors and as many warnings that are told one by one; all are counted."""
TRACKED = 1_000_000
"""Examples that are remembered, by 8 bytes each, to find those that come again."""
MINIMUM = 10
"""Examples of a training file, as OpenAI asks."""
BOM = b"\xef\xbb\xbf"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something wrong (error) or odd (warning) in a line, counted from 1; None: in the file."""

    level: Literal["error", "warning"]
    code: str
    line: int | None
    message: str
    param: str | None = None


class Figures(msgspec.Struct, kw_only=True):
    """What a file holds; `characters` are those of all messages, `learned` of the trained ones."""

    lines: int = 0
    examples: int = 0
    """Those without an error."""
    messages: int = 0
    learned_messages: int = 0
    characters: int = 0
    learned_characters: int = 0
    longest_characters: int = 0
    with_tools: int = 0
    duplicates: int = 0
    seen_in_training: int = 0
    """Of a validation file: examples that the training file has too."""


class Inspection(msgspec.Struct, kw_only=True):
    """`findings` are the first of each level; `errors` and `warnings` count all, by code."""

    figures: Figures
    findings: list[Finding] = []
    errors: dict[str, int] = {}
    warnings: dict[str, int] = {}

    @property
    def usable(self) -> bool:
        return not self.errors

    def add(self, finding: Finding) -> None:
        counts = self.errors if finding.level == "error" else self.warnings
        if sum(counts.values()) < FINDINGS:
            self.findings.append(finding)
        counts[finding.code] = counts.get(finding.code, 0) + 1


class Seen:
    """Examples met before, by a digest of their content and the line that had it first."""

    def __init__(self) -> None:
        self._lines: dict[int, int] = {}

    def line_of(self, example: Example) -> int | None:
        return self._lines.get(digest(example))

    def add(self, example: Example, line: int) -> int | None:
        """The line that had it before, if any; past the bound nothing new is remembered."""
        mark = digest(example)
        before = self._lines.get(mark)
        if before is None and len(self._lines) < TRACKED:
            self._lines[mark] = line
        return before


def digest(example: Example) -> int:
    packed = msgspec.json.encode(example, order="sorted")
    return int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "big")


def lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Each line with its number, without its end; None stands for one that is too long.

    Empty lines are left out, numbers count them.
    """
    number = 0
    while piece := file.readline(LINE + 1):
        number += 1
        if len(piece) > LINE and not piece.endswith(b"\n"):
            while (more := file.readline(LINE)) and not more.endswith(b"\n"):
                pass
            yield number, None
            continue
        line = (piece.removeprefix(BOM) if number == 1 else piece).strip()
        if line:
            yield number, line


def examples(path: Path, method: Method) -> Iterator[tuple[int, Example]]:
    """Those of a file that was inspected; raises Unusable and OSError."""
    with path.open("rb") as file:
        for number, line in lines(file):
            if line is None:
                raise too_long()
            yield number, read(line, method)


def too_long() -> Unusable:
    return Unusable("line_too_long", f"The line is longer than {LINE >> 20} MiB.")


def inspect(
    path: Path,
    method: Method,
    *,
    minimum: int = MINIMUM,
    seen: Seen | None = None,
    training: Seen | None = None,
) -> Inspection:
    """Reads the whole file. `training` is what the training file held, to find leaks.

    Raises OSError.
    """
    found = Inspection(figures=Figures())
    seen = seen or Seen()
    with path.open("rb") as file:
        for number, line in lines(file):
            found.figures.lines += 1
            try:
                if line is None:
                    raise too_long()
                example = read(line, method)
            except Unusable as error:
                found.add(
                    Finding(
                        level="error",
                        code=error.fault.code,
                        line=number,
                        message=error.fault.message,
                        param=error.fault.param,
                    )
                )
                continue
            count(found.figures, example)
            compare(found, example, number, seen, training)
    check_size(found, minimum)
    return found


def count(figures: Figures, example: Example) -> None:
    messages = (*example.messages, *example.others)
    sizes = [len(each.content or "") + calls(each.tool_calls) for each in messages]
    figures.examples += 1
    figures.messages += len(messages)
    figures.learned_messages += sum(each.learned for each in messages)
    figures.characters += sum(sizes)
    figures.learned_characters += sum(
        size for each, size in zip(messages, sizes, strict=True) if each.learned
    )
    figures.longest_characters = max(figures.longest_characters, sum(sizes))
    figures.with_tools += bool(example.tools)


def calls(made: tuple[object, ...]) -> int:
    return len(msgspec.json.encode(made)) if made else 0


def compare(
    found: Inspection, example: Example, number: int, seen: Seen, training: Seen | None
) -> None:
    before = seen.add(example, number)
    if before is not None:
        found.figures.duplicates += 1
        found.add(
            Finding(
                level="warning",
                code="duplicate_example",
                line=number,
                message=f"The same example is in line {before}.",
            )
        )
    if training is not None and (line := training.line_of(example)) is not None:
        found.figures.seen_in_training += 1
        found.add(
            Finding(
                level="warning",
                code="also_in_training",
                line=number,
                message=f"Line {line} of the training file is the same example: its loss says"
                " nothing about what was not seen.",
            )
        )


def check_size(found: Inspection, minimum: int) -> None:
    figures = found.figures
    if figures.lines == 0:
        found.add(Finding(level="error", code="empty_file", line=None, message="No line at all."))
    elif figures.lines < minimum:
        found.add(
            Finding(
                level="error",
                code="too_few_examples",
                line=None,
                message=f"There are {figures.lines} examples; at least {minimum} are needed.",
            )
        )
