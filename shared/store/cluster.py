"""The one role and the one database, with pgvector in it, of a server that is the hub's own."""

from __future__ import annotations

from contextlib import suppress

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.errors import DuplicateDatabase, DuplicateObject, UniqueViolation

from shared.db import CONNECT_TIMEOUT, queries
from shared.settings import Settings

SQL = queries("cluster")


def superuser(settings: Settings, database: str = "postgres") -> str:
    """Connection string of the embedded server's superuser. `postgres` is always there."""
    return make_conninfo(host=str(settings.sockets), user="postgres", dbname=database)


def ensure(settings: Settings) -> None:
    """Create on the embedded server what is not there yet. Several processes may do so at once.

    Raises psycopg.OperationalError when the server cannot be reached.
    """
    with administration(superuser(settings)) as connection:
        ensure_role(connection)
        if connection.execute(SQL["find_database"]).fetchone() is None:
            with suppress(DuplicateDatabase, UniqueViolation):
                connection.execute(SQL["create_database"])
    # Only a superuser may create this extension, and the hub's own role is none.
    with administration(superuser(settings, "aihub")) as connection:
        ensure_vector(connection)


def administration(conninfo: str) -> psycopg.Connection:
    return psycopg.connect(conninfo, autocommit=True, connect_timeout=CONNECT_TIMEOUT)


def ensure_role(connection: psycopg.Connection) -> None:
    if connection.execute(SQL["find_role"]).fetchone() is None:
        with suppress(DuplicateObject, UniqueViolation):
            connection.execute(SQL["create_role"])


def ensure_vector(connection: psycopg.Connection) -> None:
    with suppress(DuplicateObject, UniqueViolation):
        connection.execute(SQL["create_vector"])
