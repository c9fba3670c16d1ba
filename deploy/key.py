"""The bootstrap key: given in the settings, or generated once into <home>/admin.key."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import NamedTuple

from shared.settings import Settings, SettingsError, check_admin_key


class Key(NamedTuple):
    value: str
    path: Path | None
    """The file it is in; None when the settings hold it."""
    fresh: bool = False
    """Whether this call generated it."""


def find(settings: Settings) -> Key | None:
    """The key in force, if there is one yet; raises SettingsError for a damaged file."""
    if settings.admin_key is not None:
        return Key(settings.admin_key, None)
    path = settings.folder / "admin.key"
    if not path.exists():
        return None
    value = path.read_bytes().strip().decode("ascii", "replace")
    try:
        check_admin_key(value)
    except SettingsError as error:
        raise SettingsError(f"{path} holds no key; delete it and a new one is generated") from error
    path.chmod(0o600)
    return Key(value, path)


def obtain(settings: Settings) -> Key:
    """The key in force, generated if there is none."""
    return find(settings) or generate(settings.folder / "admin.key")


def generate(path: Path) -> Key:
    value = f"sk-aihub-{secrets.token_urlsafe(32)}"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".admin.key.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(value + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return Key(value, path, fresh=True)
