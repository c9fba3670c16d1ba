"""API keys. Only their hashes are stored: a key is shown once, when it is made."""

from __future__ import annotations

import hashlib

import msgspec
from psycopg.errors import UniqueViolation

from shared import ids
from shared.db import Pool, queries
from shared.settings import SettingsError
from shared.wire.account import SCOPES, Account

SQL = queries("api_key")
SHOWN = 14
"""Characters of a key that are kept, so that people can tell their keys apart; never a third."""
DEFAULT_PROJECT = "proj_default"


def digest(key: str) -> bytes:
    """SHA-256, 32 bytes: keys are long and random, so a slow hash would protect nothing."""
    return hashlib.sha256(key.encode()).digest()


async def find(pool: Pool, digest: bytes) -> Account | None:
    """The account of the key with this digest, if it is neither revoked nor expired.

    A key that was rotated is found under its old digest, too, until the grace is over; `expires_at`
    then tells when that is.
    """
    async with pool.connection() as connection:
        cursor = await connection.execute(SQL["find_account"], {"digest": digest})
        row = await cursor.fetchone()
    return None if row is None else msgspec.convert(row, Account)


async def ensure_bootstrap(pool: Pool, key: str) -> None:
    """Make `key` the one bootstrap key: a new row, or the new secret of the row there is.

    The secret it had before stops working. Raises SettingsError when another row has this key.
    """
    values = {
        "id": ids.new("key_"),
        "name": "bootstrap",
        "prefix": key[: min(SHOWN, len(key) // 3)],
        "digest": digest(key),
        "scopes": list(SCOPES),
        "project": DEFAULT_PROJECT,
    }
    async with pool.connection() as connection:
        try:
            await connection.execute(SQL["ensure_bootstrap_api_key"], values)
        except UniqueViolation as error:
            raise SettingsError(
                "admin_key, or AIHUB_ADMIN_KEY: this key is already in use as an ordinary API key."
                " Choose another one."
            ) from error
