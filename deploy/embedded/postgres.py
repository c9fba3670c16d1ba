"""The embedded PostgreSQL server.

It listens on one unix socket and on no network address. Whoever reaches the socket is already the
hub's own account or root, because the folder is closed to everyone else; `peer` authentication
asks the kernel once more, so there is no password to keep. `postgres` is the superuser and `aihub`
the role the hub works as.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable

import psycopg

from deploy.embedded import folder, layout, orphan
from deploy.embedded.folder import EmbeddedError
from deploy.embedded.layout import Layout
from deploy.service import Service
from shared.settings import Settings
from shared.store import cluster

MAJOR = "18"
INITDB_TIMEOUT = 300.0
PROBE_TIMEOUT = 2
ROLES = ("postgres", "aihub")

CONFIG = """\
# Written by aihub at every start. Put your own settings into local.conf beside this file.
data_directory = {data}
hba_file = {hba}
ident_file = {ident}
listen_addresses = ''
unix_socket_directories = {run}
unix_socket_permissions = 0600
max_connections = 100
shared_buffers = 128MB
max_wal_size = 512MB
io_workers = 1
max_logical_replication_workers = 0
jit = off
client_connection_check_interval = 1s
idle_in_transaction_session_timeout = 60s
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
log_checkpoints = off
include_if_exists = {local}
"""


def prepare(settings: Settings, report: Callable[[str], None]) -> int:
    """Make everything the server needs, once, and take the lock on its folder.

    Returns the lock's descriptor, held until it is closed or this process ends. A server that an
    earlier supervisor left behind is stopped. Raises EmbeddedError, also when another hub runs.
    """
    found = layout.find(settings)
    layout.make(found, report)
    lock = folder.lock(found.place / "lock")
    try:
        orphan.end("postgres", found.config, signal.SIGINT)
        layout.copy_binaries(found, report)
        if not found.data.exists():
            report("Creating the database files (once)")
            initialise(found)
        check_version(found)
        drop_stale_pid(found)
        configure(found)
        link_socket(found)
    except BaseException:
        os.close(lock)
        raise
    return lock


def service(settings: Settings) -> Service:
    """The server in the foreground; SIGINT is its fast shutdown."""
    found = layout.find(settings)
    return Service(
        name="postgres",
        argv=(str(found.binaries / "postgres"), "-c", f"config_file={found.config}"),
        env={"LC_ALL": "C"},
        missing=lambda: missing(settings),
        user=None if found.account.current else found.account.name,
        stop=signal.SIGINT,
    )


def missing(settings: Settings) -> str | None:
    """Open a real connection; why it failed, or None."""
    try:
        psycopg.connect(cluster.superuser(settings), connect_timeout=PROBE_TIMEOUT).close()
    except psycopg.OperationalError as error:
        return str(error).strip().splitlines()[0]
    return None


def initialise(found: Layout) -> None:
    """Run initdb beside `data` and rename at the end, so that `data` is whole or not there."""
    fresh = found.place / "data.new"
    shutil.rmtree(fresh, ignore_errors=True)
    folder.private(fresh, found.account.uid, found.account.gid)
    command = [
        str(found.binaries / "initdb"),
        f"--pgdata={fresh}",
        "--username=postgres",
        "--auth=peer",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--no-sync",
        "--no-instructions",
    ]
    account = found.account
    ended = subprocess.run(
        command,
        cwd=found.place,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INITDB_TIMEOUT,
        user=None if account.current else account.uid,
        group=None if account.current else account.gid,
        extra_groups=None if account.current else [],
    )
    if ended.returncode != 0:
        raise EmbeddedError(f"initdb failed:\n{ended.stdout.strip()[-2000:]}")
    fresh.rename(found.data)


def check_version(found: Layout) -> None:
    version = (found.data / "PG_VERSION").read_text(encoding="ascii").strip()
    if version != MAJOR:
        raise EmbeddedError(
            f"{found.data} was made by PostgreSQL {version}, and this is {MAJOR}. Move the data"
            " with that version's pg_dumpall, or choose another folder with AIHUB_HOME."
        )


def drop_stale_pid(found: Layout) -> None:
    """Remove a pid file that would keep the server from starting although it names no server.

    PostgreSQL takes any living process of its own account for a server, and refuses a file that is
    empty or cut short. It checks the shared memory of `data` apart from this file, so a server we
    failed to recognise still keeps a second one out.
    """
    path = found.data / "postmaster.pid"
    if not path.exists():
        return
    first = path.read_bytes().split(b"\n", 1)[0].strip()
    if not first.isdigit() or orphan.program(int(first)) != "postgres":
        path.unlink()


def configure(found: Layout) -> None:
    place = found.place
    identities = dict.fromkeys((folder.called(os.geteuid()), found.account.name))
    pairs = [f'aihub "{name}" {role}\n' for name in identities for role in ROLES]
    text = CONFIG.format(
        data=quote(str(found.data)),
        hba=quote(str(place / "pg_hba.conf")),
        ident=quote(str(place / "pg_ident.conf")),
        run=quote('"' + str(found.run).replace('"', '""') + '"'),
        local=quote(str(place / "local.conf")),
    )
    folder.write(place / "pg_hba.conf", "local all all peer map=aihub\n")
    folder.write(place / "pg_ident.conf", "".join(pairs))
    folder.write(found.config, text)


def quote(text: str) -> str:
    """A string of PostgreSQL's configuration file."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def link_socket(found: Layout) -> None:
    """Put a link to the server's socket where clients look for it."""
    if found.run == found.sockets:
        return
    fresh = found.sockets / (layout.SOCKET + ".new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(found.run / layout.SOCKET)
    fresh.replace(found.sockets / layout.SOCKET)


def unlink_socket(found: Layout) -> None:
    """Take that link back once the server is gone."""
    link = found.sockets / layout.SOCKET
    if link.is_symlink() and not link.exists():
        link.unlink()
