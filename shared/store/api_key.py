"""API keys. Only their hashes are stored: a key is shown once, when it is made."""

from __future__ import annotations

import hashlib
import secrets
from typing import NamedTuple

import msgspec
from psycopg.errors import UniqueViolation

from shared import ids
from shared.db import Connection, Pool, queries
from shared.settings import SettingsError
from shared.store.window import ONE, Window, columns, locked, rows
from shared.wire.account import SCOPES, Account, Scope
from shared.wire.admin import Key

SQL = queries("api_key")
SHOWN = 14
"""Characters of a key that are kept, so that people can tell their keys apart; never a third."""
DEFAULT_PROJECT = "proj_default"


class Fresh(NamedTuple):
    """A new key: `value` is shown once, the rest is stored."""

    value: str
    prefix: str
    digest: bytes


def generate() -> Fresh:
    """A key of 32 random bytes."""
    value = f"sk-aihub-{secrets.token_urlsafe(32)}"
    return Fresh(value, shown(value), digest(value))


def shown(key: str) -> str:
    return key[: min(SHOWN, len(key) // 3)]


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
        "prefix": shown(key),
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


async def insert(connection: Connection, key: Key, fresh: Fresh) -> None:
    """Raises psycopg.errors.ForeignKeyViolation for an unknown project or user."""
    values = {**columns(key), **columns(key.limits), **fresh._asdict()}
    await connection.execute(SQL["insert_api_key"], settled(values))


async def update(connection: Connection, key: Key) -> None:
    """Writes name, scopes, models, limits and expiry."""
    values = {**columns(key), **columns(key.limits)}
    await connection.execute(SQL["update_api_key"], settled(values))


async def rotate(connection: Connection, id_: str, fresh: Fresh, grace: int) -> None:
    """The key gets a new secret and stays what it was; the old one works for `grace` seconds."""
    values = {"id": id_, "grace": grace, **fresh._asdict()}
    await connection.execute(SQL["rotate_api_key"], values)


async def revoke(connection: Connection, id_: str) -> None:
    await connection.execute(SQL["revoke_api_key"], {"id": id_})


async def find_key(connection: Connection, id_: str, *, lock: bool = False) -> Key | None:
    """As administrators see it, revoked or not."""
    if lock and not await locked(connection, SQL["lock_api_key"], {"id": id_}):
        return None
    found = await select(connection, ONE, id_=id_, revoked=True)
    return found[0] if found else None


async def select(
    connection: Connection,
    window: Window,
    *,
    id_: str | None = None,
    project: str | None = None,
    user: str | None = None,
    scope: Scope | None = None,
    revoked: bool = False,
    userless: bool = False,
) -> list[Key]:
    """`revoked`: with those that are revoked. `userless`: only keys of service accounts."""
    values = {"id": id_, "project": project, "user": user, "scope": scope}
    flags = {"revoked": revoked, "userless": userless}
    return await rows(
        connection, SQL["find_api_keys"], {**values, **flags, **window._asdict()}, Key
    )


def settled(values: dict[str, object]) -> dict[str, object]:
    """Tuples as lists, which psycopg makes arrays of."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
