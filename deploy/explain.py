"""`aihub explain`: what the workers decided about models, and why.

Without a number the last decisions; with one its inputs, its reason, the alternative, and whether
it comes out the same when it is made again.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from shared.settings import Settings
from shared.wire.decision import FOLDER, Line, decode_line


def main(settings: Settings, options: argparse.Namespace) -> int:
    """Exit status 1 when there is nothing to show, or a decision comes out differently."""
    folder = settings.folder / FOLDER
    if options.number is not None:
        return one(folder, options.number, options.lane)
    found = sorted(
        (line for path in files(folder, options.lane, options.admissions) for line in lines(path)),
        key=lambda line: line.wall_ms,
    )
    if options.model is not None:
        found = [line for line in found if options.model in line.models]
    for line in found[-options.last :]:
        print(row(line))
    if not found:
        print(f"aihub explain: no decisions in {folder}", file=sys.stderr)
    return 0 if found else 1


def files(folder: Path, lane: str | None, admissions: bool) -> Iterator[Path]:
    """Journals of all workers, or of one lane's; the older generation of each first."""
    ours = re.compile(rf"{re.escape(lane or '')}(-(cpu|cuda)-\d+)?(\.admissions)?\.jsonl")
    for path in sorted(folder.glob("*.jsonl")):
        if lane is not None and not ours.fullmatch(path.name):
            continue
        if admissions or not path.name.endswith(".admissions.jsonl"):
            yield from (p for p in (path.with_name(path.name + ".1"), path) if p.is_file())


def lines(path: Path) -> Iterator[Line]:
    """Whole lines; the last one may be in the making."""
    with path.open("rb") as file:
        for line in file:
            try:
                yield decode_line(line)
            except msgspec.DecodeError:
                continue


def row(line: Line) -> str:
    return f"{line.number:>7}  {when(line)}  {line.text}"


def when(line: Line) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.wall_ms / 1000))


def one(folder: Path, number: int, lane: str | None) -> int:
    places = [
        (line, path)
        for path in files(folder, lane, admissions=True)
        for line in lines(path)
        if line.number == number
    ]
    if not places:
        print(f"aihub explain: no decision {number} in {folder}", file=sys.stderr)
        return 1
    status = 0
    for line, path in places:
        print(f"decision  {number} of {path.name.split('.')[0]}, {when(line)}", flush=True)
        command = [sys.executable, "-P", "-m", "worker.decision", str(path), str(number)]
        status |= subprocess.run(command, check=False).returncode
    return status
