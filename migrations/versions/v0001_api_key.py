"""pgvector and API keys"""

from __future__ import annotations

from alembic import context, op
from alembic.util import CommandError

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

API_KEY = """
CREATE TABLE api_key (
    id text PRIMARY KEY,
    name text NOT NULL,
    prefix text NOT NULL,
    digest bytea NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
    scopes text[] NOT NULL,
    bootstrap boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
CREATE UNIQUE INDEX api_key_bootstrap ON api_key (bootstrap) WHERE bootstrap;
"""
VECTOR = "CREATE EXTENSION IF NOT EXISTS vector"


def upgrade() -> None:
    if not context.is_offline_mode():
        check_vector()
    op.execute(VECTOR)
    op.execute(API_KEY)


def downgrade() -> None:
    # The extension stays: it may be an administrator's, and others may use it.
    op.execute("DROP TABLE api_key")


def check_vector() -> None:
    """Say what to do where CREATE EXTENSION would only say that it failed."""
    found = op.get_bind().exec_driver_sql(
        """
        SELECT a.installed_version IS NOT NULL,
               has_database_privilege(current_database(), 'CREATE') AND coalesce(v.trusted, false)
                   OR current_setting('is_superuser')::boolean,
               current_database(),
               current_user
        FROM pg_available_extensions a
        LEFT JOIN pg_available_extension_versions v
            ON v.name = a.name AND v.version = a.default_version
        WHERE a.name = 'vector'
        """
    )
    row = found.one_or_none()
    if row is None:
        raise CommandError(
            "this PostgreSQL server has no pgvector. Install it on the server (for example the"
            " package postgresql-18-pgvector, or the image pgvector/pgvector), then try again."
        )
    installed, allowed, database, role = row
    if not installed and not allowed:
        raise CommandError(
            f"role {role} may not create the extension vector. Let an administrator run, in"
            f" database {database}: CREATE EXTENSION vector; then try again."
        )
