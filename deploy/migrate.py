"""Bring the database to the newest schema: `aihub migrate`."""

from __future__ import annotations

from importlib.resources import files

from shared.settings import Settings


class MigrationError(Exception):
    """The database could not be migrated; the message says why and what to do."""


def run(settings: Settings) -> None:
    """Migrate to the head; any number of processes may call it at once.

    On the embedded server the role and the database are created first. A server of your own gets
    nothing but the extension vector and tables. Raises MigrationError.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config(attributes={"settings": settings})
    config.set_main_option("script_location", str(files("migrations")).replace("%", "%%"))
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise MigrationError(str(error)) from error
