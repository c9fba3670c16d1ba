"""Real servers for tests, started as the supervisor starts them."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.child import Child
from deploy.embedded import postgres, valkey
from deploy.logfile import LogFile
from deploy.service import Service
from shared.settings import Settings

WITHIN = 60.0


@contextmanager
def temporary_home() -> Iterator[Path]:
    """A folder with a short path right below /tmp, where every account can get to it."""
    path = Path(tempfile.mkdtemp(prefix="aihub-", dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def quiet(_: str) -> None:
    """A report nobody reads."""


class Server:
    """One running service. `child.pid` is the server's own."""

    def __init__(self, service: Service, home: Path) -> None:
        self.service = service
        self.child = Child(
            service.argv,
            LogFile(home / f"{service.name}.log"),
            env=service.env,
            orphaned=service.stop,
            user=service.user,
        )

    def wait_ready(self) -> None:
        deadline = time.monotonic() + WITHIN
        while (missing := self.service.missing()) is not None:
            status = self.child.exit()
            assert status is None, "\n".join([f"exit {status}", *self.child.log.tail()])
            assert time.monotonic() < deadline, missing
            time.sleep(0.01)

    def wait_exit(self) -> int:
        deadline = time.monotonic() + WITHIN
        while (status := self.child.exit()) is None:
            assert time.monotonic() < deadline, "still running"
            time.sleep(0.01)
        return status

    def stop(self) -> int:
        self.child.signal(self.service.stop)
        return self.wait_exit()


@contextmanager
def running(service: Service, home: Path) -> Iterator[Server]:
    """Start a service, wait until it is ready, stop it at the end if it still runs."""
    server = Server(service, home)
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


@contextmanager
def running_postgres(settings: Settings, *extra: str) -> Iterator[Server]:
    """The embedded PostgreSQL; `extra` are lines of its configuration."""
    lock = postgres.prepare(settings, quiet)
    try:
        (settings.folder / "postgres" / "local.conf").write_text("\n".join((*extra, "")))
        with running(postgres.service(settings), settings.folder) as server:
            yield server
    finally:
        os.close(lock)


@contextmanager
def running_valkey(settings: Settings) -> Iterator[Server]:
    lock = valkey.prepare(settings, quiet)
    try:
        with running(valkey.service(settings), settings.folder) as server:
            yield server
    finally:
        os.close(lock)
