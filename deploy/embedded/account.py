"""The account PostgreSQL runs as: it refuses to run as root."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import NamedTuple

from deploy.embedded.folder import EmbeddedError

UNPRIVILEGED = ("postgres", "nobody")


class Account(NamedTuple):
    name: str
    uid: int
    gid: int

    @property
    def current(self) -> bool:
        return self.uid == os.geteuid()


def choose(data: Path) -> Account:
    """This process's own account; for root the owner of `data`, else an unprivileged account.

    Nothing is added to the system. Raises EmbeddedError when no account fits.
    """
    if os.geteuid() != 0:
        return of(os.geteuid())
    if data.exists() and data.stat().st_uid != 0:
        return of(data.stat().st_uid)
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedError(
        f"PostgreSQL does not run as root, and none of the accounts {', '.join(UNPRIVILEGED)}"
        " exists. Start the hub as another user, or set AIHUB_DATABASE_URL."
    )


def of(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedError(
            f"User {uid} has no name in /etc/passwd, and PostgreSQL needs one. Run the hub as an"
            " account that has, or set AIHUB_DATABASE_URL."
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def allows(account: Account, path: Path, bit: int) -> bool:
    """Whether the mode of `path` gives the account `bit`: 4 read, 2 write, 1 run or pass."""
    found = path.stat()
    shift = 6 if found.st_uid == account.uid else 3 if found.st_gid == account.gid else 0
    return bool(found.st_mode >> shift & bit)


def reaches(account: Account, path: Path) -> bool:
    """Whether the account can pass every folder above `path`."""
    return all(allows(account, folder, 1) for folder in path.resolve().parents)
