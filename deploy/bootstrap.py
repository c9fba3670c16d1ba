"""`aihub migrate`: the schema, then the row of the bootstrap key."""

from __future__ import annotations

import argparse
import asyncio
import sys

from psycopg import Error
from psycopg_pool import PoolTimeout

from deploy import key, migrate
from shared import db
from shared.settings import Settings
from shared.store import api_key


def main(settings: Settings, options: argparse.Namespace) -> int:
    try:
        migrate.run(settings)
        admin = key.obtain(settings)
        asyncio.run(register(settings, admin.value))
    except (migrate.MigrationError, Error, PoolTimeout) as error:
        print(f"aihub migrate: {error}", file=sys.stderr)
        return 1
    if admin.fresh:
        print(f"the bootstrap key was generated into {admin.path}")
    print("the schema is up to date and the bootstrap key is known")
    return 0


async def register(settings: Settings, value: str) -> None:
    """Make this key the bootstrap key; the one before stops working."""
    async with db.connect(settings.postgres, largest=1) as pool:
        await api_key.ensure_bootstrap(pool, value)
