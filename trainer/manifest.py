"""Whole or torn: a checkpoint's manifest names every file with its size and SHA-256.

It is written last, behind an fsync of everything it names; a folder without one that verifies is
no checkpoint.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

import msgspec

FILE = "manifest.json"
FOLDER = re.compile(r"checkpoint-([1-9][0-9]*)")
PIECE = 1 << 20


class Entry(msgspec.Struct, frozen=True):
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    step: int
    files: dict[str, Entry]
    """By path beneath the folder."""
    loss: float | None = None
    accuracy: float | None = None
    valid_loss: float | None = None
    valid_accuracy: float | None = None


def seal(
    folder: Path,
    step: int,
    *,
    loss: float | None = None,
    accuracy: float | None = None,
    valid_loss: float | None = None,
    valid_accuracy: float | None = None,
) -> Manifest:
    """Make what is in the folder last, and say so; raises OSError."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != FILE:
            sync(path)
            found[path.relative_to(folder).as_posix()] = Entry(path.stat().st_size, sha256(path))
    made = Manifest(
        step=step,
        files=found,
        loss=loss,
        accuracy=accuracy,
        valid_loss=valid_loss,
        valid_accuracy=valid_accuracy,
    )
    part = folder / f"{FILE}.part"
    part.write_bytes(msgspec.json.encode(made))
    sync(part)
    part.replace(folder / FILE)
    for directory in {folder, *(folder / name for name in found)}:
        sync(directory if directory.is_dir() else directory.parent)
    sync(folder.parent)
    return made


def verify(folder: Path) -> Manifest | None:
    """The manifest, if every file is there as it says; raises nothing."""
    try:
        made = msgspec.json.decode((folder / FILE).read_bytes(), type=Manifest)
        for name, entry in made.files.items():
            path = folder / name
            if path.stat().st_size != entry.size or sha256(path) != entry.sha256:
                return None
    except (OSError, msgspec.MsgspecError):
        return None
    return made


def steps(job: Path) -> list[tuple[int, Path]]:
    """Every folder that has a checkpoint's name, whole or not, latest step first."""
    found = []
    for path in job.glob("checkpoint-*"):
        match = FOLDER.fullmatch(path.name)
        if match is not None and path.is_dir():
            found.append((int(match[1]), path))
    return sorted(found, reverse=True)


def newest(job: Path) -> tuple[Path, Manifest] | None:
    """The latest checkpoint that is whole."""
    for step, path in steps(job):
        made = verify(path)
        if made is not None and made.step == step:
            return path, made
    return None


def prune(job: Path, keep: int) -> None:
    """Remove all but the `keep` latest whole ones and the best by validation loss.

    What is torn goes too: it would be in the way of the next one of its name.
    """
    whole = [(path, read(path)) for _, path in steps(job)]
    kept = [path for path, made in whole if made is not None][: max(1, keep)]
    judged = [
        (made.valid_loss, path)
        for path, made in whole
        if made is not None and made.valid_loss is not None
    ]
    if judged:
        kept.append(min(judged)[1])
    for path, _ in whole:
        if path not in kept:
            shutil.rmtree(path)


def read(folder: Path) -> Manifest | None:
    """The manifest as it is written, unverified."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError):
        return None


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
