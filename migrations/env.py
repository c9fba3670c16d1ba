"""What alembic runs for every command: connect, wait for our turn, migrate.

The settings come from `config.attributes["settings"]`, else from the file and the environment.
"""

from __future__ import annotations

import psycopg
from alembic import context
from alembic.util import CommandError
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from migrations.lock import alone
from shared import settings as configuration
from shared.settings import Settings
from shared.store import cluster

CONNECT_TIMEOUT = 5
LIMITS = (
    "SET lock_timeout = '10s'",
    "SET client_connection_check_interval = '1s'",
)
"""A step does not queue behind a long transaction, where it would stop everyone else; and the
server ends the statement of a migration that was killed."""


def online(settings: Settings) -> None:
    url = settings.postgres
    engine = create_engine(
        "postgresql+psycopg://",
        # libpq reads the URL itself: SQLAlchemy's parser knows fewer forms of it.
        creator=lambda: psycopg.connect(url, connect_timeout=CONNECT_TIMEOUT),
        poolclass=NullPool,
    )
    try:
        if settings.database_url is None:
            cluster.ensure(settings)
        with alone(url), engine.connect() as connection:
            migrate(connection)
    except psycopg.OperationalError as error:
        raise CommandError(f"PostgreSQL cannot be reached: {error}") from error
    except DBAPIError as error:
        raise CommandError(f"the database refused a step: {error.orig}") from error


def migrate(connection: Connection) -> None:
    for limit in LIMITS:
        connection.exec_driver_sql(limit)
    connection.commit()
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


def offline() -> None:
    """Print the SQL instead (`--sql`)."""
    context.configure(dialect_name="postgresql")
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    offline()
else:
    online(context.config.attributes.get("settings") or configuration.load())
