"""What one running hub holds alone: its state folder and its port."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path

from deploy.check import State, parts
from shared.settings import Settings


class Refused(Exception):
    """Something else holds what this hub needs; the message says what and how to mend it."""


class HomeLock:
    """One supervisor per state folder, for as long as this object lives. kill -9 frees it."""

    def __init__(self, folder: Path) -> None:
        """Raises Refused when another supervisor holds the folder."""
        self._descriptor = os.open(folder / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise Refused(
                f"another `aihub up` (process {holder or 'unknown'}) runs on {folder}."
                " Stop it, or set AIHUB_HOME to another folder."
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        os.close(self._descriptor)


def servers(settings: Settings) -> None:
    """Raises Refused when a server that a URL of the settings names does not answer."""
    found = []
    if settings.database_url is not None:
        found.append(parts.postgres(settings.database_url))
    if settings.redis_url is not None:
        found.append(parts.redis_server(settings.redis_url))
    for finding in found:
        if finding.state is State.FAIL:
            raise Refused(f"{finding.what} at {finding.found}. Mend: {finding.mend}.")


def port(settings: Settings) -> int:
    """The port the gateway will get: the one set, or a free one for 0. Raises Refused."""
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise Refused(f"AIHUB_HOST: {settings.host!r} cannot be resolved: {error}") from error
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            raise Refused(explain(settings, error)) from error
        return int(probe.getsockname()[1])


def explain(settings: Settings, error: OSError) -> str:
    where = f"{settings.host} port {settings.port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use. Stop what listens there, or set AIHUB_PORT to a free port."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where} is not allowed to this user. Set AIHUB_PORT to one above 1023."
    return f"cannot listen on {where}: {error.strerror}. Set AIHUB_HOST to an address of this host."
