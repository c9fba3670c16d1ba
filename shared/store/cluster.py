"""The one role and the one database of a server that is the hub's own."""

from __future__ import annotations

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.errors import DuplicateDatabase, DuplicateObject, UniqueViolation

from shared.db import CONNECT_TIMEOUT, queries
from shared.settings import Settings

SQL = queries("cluster")


def superuser(settings: Settings) -> str:
    """Connection string of the embedded server's superuser, to a database that is always there."""
    return make_conninfo(host=str(settings.sockets), user="postgres", dbname="postgres")


def ensure(settings: Settings) -> None:
    """Create on the embedded server what is not there yet. Several processes may do so at once.

    Raises psycopg.OperationalError when the server cannot be reached.
    """
    conninfo = superuser(settings)
    with psycopg.connect(conninfo, autocommit=True, connect_timeout=CONNECT_TIMEOUT) as connection:
        for noun in ("role", "database"):
            if connection.execute(SQL[f"find_{noun}"]).fetchone() is None:
                try:
                    connection.execute(SQL[f"create_{noun}"])
                except (DuplicateObject, DuplicateDatabase, UniqueViolation):
                    continue
