"""The folders, the key, the port, and the hub that may already run there."""

from __future__ import annotations

import http.client
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from deploy import claim, key, welcome
from deploy.check import Finding, fail, ok, warn
from shared.settings import LONGEST_SOCKET_FOLDER, Settings, SettingsError

PROBE_TIMEOUT = 3.0


def findings(settings: Settings) -> Iterator[Finding]:
    yield home(settings)
    yield sockets(settings)
    yield secret(settings)
    yield port(settings)


def home(settings: Settings) -> Finding:
    folder = nearest(settings.folder)
    if not folder.is_dir():
        return fail("home", f"{folder} is not a folder", "set AIHUB_HOME to another one")
    if not os.access(folder, os.W_OK | os.X_OK):
        return fail("home", f"{folder} cannot be written", "set AIHUB_HOME to a folder of yours")
    return ok("home", str(settings.folder))


def sockets(settings: Settings) -> Finding:
    folder = settings.sockets
    length = len(os.fsencode(folder))
    if length > LONGEST_SOCKET_FOLDER:
        found = f"{folder} has {length} bytes, more than {LONGEST_SOCKET_FOLDER}"
        return fail("sockets", found, "set AIHUB_HOME, or TMPDIR, to a shorter path")
    if not os.access(nearest(folder), os.W_OK | os.X_OK):
        return fail("sockets", f"{nearest(folder)} cannot be written", "set AIHUB_HOME elsewhere")
    return ok("sockets", f"{folder} ({length} of {LONGEST_SOCKET_FOLDER} bytes)")


def secret(settings: Settings) -> Finding:
    path = settings.folder / "admin.key"
    if settings.admin_key is None and path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        return warn("key", f"{path} can be read by others", f"chmod 600 {path}")
    try:
        found = key.find(settings)
    except SettingsError as error:
        return fail("key", str(error), f"rm {path}")
    if found is None:
        return ok("key", f"none yet: the first `aihub up` makes {path}")
    return ok("key", f"in {found.path}" if found.path else "in the settings")


def port(settings: Settings) -> Finding:
    """Free, or taken by a hub that answers."""
    where = welcome.address(settings)
    try:
        claim.port(settings)
    except claim.Refused as error:
        answer = readiness(settings)
        if answer == 200:
            return ok("port", f"a hub answers at {where} and is ready")
        if answer == 503:
            return warn(
                "port", f"a hub answers at {where} but is not ready", "wait, or read its log"
            )
        sentence, _, mend = str(error).partition(". ")
        return fail("port", sentence, mend)
    return ok("port", f"{where} is free; no hub runs there")


def readiness(settings: Settings) -> int | None:
    """The status of /health/ready; None when what listens there is no HTTP server."""
    host, _, number = welcome.address(settings).rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(number), timeout=PROBE_TIMEOUT)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def nearest(folder: Path) -> Path:
    """The folder, or the closest one above it that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder
