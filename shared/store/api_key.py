"""API keys. Only their hashes are stored: a key is shown once, when it is made."""

from __future__ import annotations

import hashlib
from datetime import datetime

import msgspec
from psycopg.errors import UniqueViolation

from shared import ids
from shared.db import Pool, queries
from shared.settings import SettingsError

SQL = queries("api_key")
SHOWN = 14
"""Characters of a key that are kept, so that people can tell their keys apart; never a third."""
BOOTSTRAP_SCOPES = ("admin", "inference")


class ApiKey(msgspec.Struct, frozen=True):
    """Times carry their zone. `expires_at` None: never."""

    id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def digest(key: str) -> bytes:
    """SHA-256, 32 bytes: keys are long and random, so a slow hash would protect nothing."""
    return hashlib.sha256(key.encode()).digest()


async def find(pool: Pool, digest: bytes) -> ApiKey | None:
    """The key with this digest, if it is neither revoked nor expired."""
    async with pool.connection() as connection:
        cursor = await connection.execute(SQL["find_api_key"], {"digest": digest})
        row = await cursor.fetchone()
    return None if row is None else msgspec.convert(row, ApiKey)


async def ensure_bootstrap(pool: Pool, key: str) -> None:
    """Make `key` the one bootstrap key: a new row, or the new secret of the row there is.

    The secret it had before stops working. Raises SettingsError when another row has this key.
    """
    values = {
        "id": ids.new("key_"),
        "name": "bootstrap",
        "prefix": key[: min(SHOWN, len(key) // 3)],
        "digest": digest(key),
        "scopes": list(BOOTSTRAP_SCOPES),
    }
    async with pool.connection() as connection:
        try:
            await connection.execute(SQL["ensure_bootstrap_api_key"], values)
        except UniqueViolation as error:
            raise SettingsError(
                "admin_key, or AIHUB_ADMIN_KEY: this key is already in use as an ordinary API key."
                " Choose another one."
            ) from error
