"""One migration at a time, whoever starts it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from alembic.util import CommandError

KEY = 0x6169_6875_6220_6D67
"""The advisory lock's number: any that nobody else uses."""
POLL = 0.1
PATIENCE = 600.0
"""Seconds to wait for another migration."""


@contextmanager
def alone(url: str) -> Iterator[None]:
    """Hold the lock on a connection of its own that does nothing else.

    It polls: a waiting `pg_advisory_lock` holds a snapshot, and CREATE INDEX CONCURRENTLY waits
    for every snapshot, so the two would wait for each other. The connection is idle, so the server
    frees the lock as soon as this process is gone. Raises CommandError after PATIENCE seconds.
    """
    deadline = time.monotonic() + PATIENCE
    with psycopg.connect(url, autocommit=True, application_name="aihub migrate") as connection:
        while not taken(connection):
            if time.monotonic() > deadline:
                raise CommandError(f"another migration has been running for {PATIENCE:.0f} seconds")
            time.sleep(POLL)
        yield


def taken(connection: psycopg.Connection) -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (KEY,)).fetchone()
    return row is not None and bool(row[0])
