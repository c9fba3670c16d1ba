from __future__ import annotations

import psycopg
import pytest

from shared.db import Pool, transaction
from shared.settings import SettingsError
from shared.store import api_key
from shared.wire.account import SCOPES, Budget, Limits

KEY = "sk-first-0123456789"
OTHER = "sk-second-0123456789"


async def insert(pool: Pool, key: str, lifetime: str | None) -> None:
    async with transaction(pool) as connection:
        await connection.execute(
            "INSERT INTO api_key (id, name, prefix, digest, scopes, project_id, expires_at)"
            " VALUES (%s, 'test', 'sk-', %s, '{inference}', 'proj_default',"
            " now() + %s::interval)",
            (f"key_{key}", api_key.digest(key), lifetime),
        )


async def test_unknown_key_is_not_found(pool: Pool) -> None:
    assert await api_key.find(pool, api_key.digest(KEY)) is None


async def test_bootstrap_key_is_found_whole(pool: Pool) -> None:
    await api_key.ensure_bootstrap(pool, KEY)
    found = await api_key.find(pool, api_key.digest(KEY))
    assert found is not None
    assert found.key.startswith("key_")
    assert (found.project, found.organisation) == ("proj_default", "org_default")
    assert (found.name, found.scopes) == ("bootstrap", SCOPES)
    assert (found.models, found.expires_at) == ((), None)


async def test_only_the_hash_is_stored(pool: Pool, database_url: str) -> None:
    await api_key.ensure_bootstrap(pool, KEY)
    with psycopg.connect(database_url) as connection:
        (row,) = connection.execute("SELECT api_key::text FROM api_key").fetchall()
    assert KEY not in row[0]
    assert api_key.digest(KEY).hex() in row[0]


async def test_a_changed_bootstrap_key_replaces_the_old_one(pool: Pool) -> None:
    await api_key.ensure_bootstrap(pool, KEY)
    first = await api_key.find(pool, api_key.digest(KEY))
    await api_key.ensure_bootstrap(pool, OTHER)
    second = await api_key.find(pool, api_key.digest(OTHER))
    assert await api_key.find(pool, api_key.digest(KEY)) is None
    assert first is not None
    assert second is not None
    assert first.key == second.key


async def test_a_revoked_bootstrap_key_is_activated_again(pool: Pool) -> None:
    await api_key.ensure_bootstrap(pool, KEY)
    async with transaction(pool) as connection:
        await connection.execute("UPDATE api_key SET revoked_at = now()")
    assert await api_key.find(pool, api_key.digest(KEY)) is None
    await api_key.ensure_bootstrap(pool, KEY)
    assert await api_key.find(pool, api_key.digest(KEY)) is not None


async def test_the_same_bootstrap_key_writes_nothing(pool: Pool) -> None:
    await api_key.ensure_bootstrap(pool, KEY)
    async with pool.connection() as connection:
        before = await (await connection.execute("SELECT ctid::text FROM api_key")).fetchone()
        await api_key.ensure_bootstrap(pool, KEY)
        after = await (await connection.execute("SELECT ctid::text FROM api_key")).fetchone()
    assert before == after


async def test_an_expired_key_is_not_found(pool: Pool) -> None:
    await insert(pool, KEY, "-1 second")
    await insert(pool, OTHER, "1 hour")
    assert await api_key.find(pool, api_key.digest(KEY)) is None
    found = await api_key.find(pool, api_key.digest(OTHER))
    assert found is not None
    assert found.expires_at is not None


async def test_an_ordinary_key_cannot_become_the_bootstrap_key(pool: Pool) -> None:
    await insert(pool, KEY, None)
    with pytest.raises(SettingsError, match="AIHUB_ADMIN_KEY"):
        await api_key.ensure_bootstrap(pool, KEY)


async def test_a_failed_transaction_leaves_nothing(pool: Pool) -> None:
    with pytest.raises(RuntimeError):
        async with transaction(pool) as connection:
            await connection.execute(
                "INSERT INTO api_key (id, name, prefix, digest, scopes, project_id)"
                " VALUES ('key_x', 'x', 'x', %s, '{}', 'proj_default')",
                (api_key.digest(KEY),),
            )
            raise RuntimeError
    assert await api_key.find(pool, api_key.digest(KEY)) is None


async def test_the_account_has_limits_budgets_and_caches_of_key_and_project(pool: Pool) -> None:
    await insert(pool, KEY, None)
    async with transaction(pool) as connection:
        await connection.execute(
            "UPDATE api_key SET models = '{a}', requests_per_minute = 5;"
            'UPDATE project SET concurrent = 2, cache = \'{"semantic": {"enabled": true}}\';'
            f"INSERT INTO budget (id, key_id, period, tokens) VALUES ('b1', 'key_{KEY}', 'day', 7);"
            "INSERT INTO budget (id, project_id, period, micros)"
            " VALUES ('b2', 'proj_default', 'month', 9007199254740991)"
        )
    found = await api_key.find(pool, api_key.digest(KEY))
    assert found is not None
    assert found.models == ("a",)
    assert (found.key_limits, found.project_limits) == (Limits(5), Limits(concurrent=2))
    assert found.budgets == (
        Budget("b1", "key", f"key_{KEY}", "day", tokens=7),
        Budget("b2", "project", "proj_default", "month", micros=9007199254740991),
    )
    assert (found.cache.response, found.cache.semantic.enabled) == (True, True)


async def test_a_rotated_key_is_found_under_both_digests_until_the_grace_is_over(
    pool: Pool,
) -> None:
    await insert(pool, KEY, "1 hour")
    fresh = api_key.generate()
    async with transaction(pool) as connection:
        await api_key.rotate(connection, f"key_{KEY}", fresh, 60)
    old = await api_key.find(pool, api_key.digest(KEY))
    new = await api_key.find(pool, fresh.digest)
    assert old is not None and new is not None
    assert old.key == new.key
    assert old.expires_at is not None and new.expires_at is not None
    assert (new.expires_at - old.expires_at).total_seconds() > 3500
    async with transaction(pool) as connection:
        await connection.execute("UPDATE api_key SET previous_until = now()")
    assert await api_key.find(pool, api_key.digest(KEY)) is None
    assert await api_key.find(pool, fresh.digest) is not None
