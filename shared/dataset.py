"""Training data that lies on this machine: files that the operator put into <home>/datasets."""

from __future__ import annotations

from pathlib import Path

from shared.settings import Settings

FOLDER = "datasets"
UPLOADED = "file-"
"""What the ids of uploaded files begin with."""


def local(name: str, settings: Settings) -> Path:
    """The file of that name, relative to the folder; raises ValueError in a caller's words."""
    root = (settings.folder / FOLDER).resolve()
    try:
        path = (root / name.removeprefix(f"{FOLDER}/")).resolve()
        inside, there = path.is_relative_to(root), path.is_file()
    except (OSError, ValueError, RuntimeError):
        inside = there = False
    if not inside or not there:
        raise ValueError(
            f"{name!r} is neither the id of an uploaded file nor a file in the hub's folder"
            f" {FOLDER}"
        )
    return path
