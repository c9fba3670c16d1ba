"""Sessions in a real Redis: they end with their time, with a logout, and with their key."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis.asyncio as redis

from gateway.auth import Keyring
from gateway.routes.admin.desk import announce
from gateway.session import IDLE_MS, LONGEST_MS, MOST, Sessions
from shared.errors import InvalidApiKey, Unavailable
from shared.store.api_key import digest
from shared.wire.account import Account

DIGEST = digest("secret")


class ManualClock:
    def __init__(self) -> None:
        self.ms = 1_000_000

    def now(self) -> float:
        return self.ms / 1000

    def wall_ms(self) -> int:
        return self.ms


class Rows:
    """One key, until it is revoked."""

    def __init__(self) -> None:
        self.account: Account | None = Account("key_1", "proj_1", "org_1", "mine", ("admin",))

    async def find(self, asked: bytes) -> Account | None:
        return self.account if asked == DIGEST else None


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def keyring(rows: Rows, clock: ManualClock) -> Keyring:
    return Keyring(rows.find, clock)


@pytest.fixture
async def sessions(
    valkey_url: str, keyring: Keyring, clock: ManualClock
) -> AsyncIterator[Sessions]:
    sessions = Sessions(valkey_url, keyring, clock)
    yield sessions
    await sessions.close()


async def test_a_session_is_its_key(sessions: Sessions) -> None:
    login = await sessions.begin(DIGEST)
    found = await sessions.find(login.token)
    assert (found.id, found.session, found.may("admin.read")) == ("key_1", True, True)
    assert len(login.token) >= 43


async def test_the_token_is_not_stored(sessions: Sessions, valkey_url: str) -> None:
    login = await sessions.begin(DIGEST)
    async with redis.Redis.from_url(valkey_url) as client:
        names = await client.keys("aihub:session*")
        kept = [*names, *[await client.get(n) for n in names if b":session:" in n]]
        assert not any(login.token.encode() in text for text in kept)
        (name,) = [n for n in names if b":session:" in n]
        assert 0 < await client.pttl(name) <= IDLE_MS


async def test_a_logout_ends_it(sessions: Sessions) -> None:
    login = await sessions.begin(DIGEST)
    await sessions.end(login.token)
    with pytest.raises(InvalidApiKey, match="Log in again"):
        await sessions.find(login.token)


async def test_a_revoked_key_has_no_sessions(
    sessions: Sessions, keyring: Keyring, rows: Rows
) -> None:
    login = await sessions.begin(DIGEST)
    await sessions.find(login.token)
    rows.account = None
    keyring.forget()
    with pytest.raises(InvalidApiKey):
        await sessions.find(login.token)


async def test_use_prolongs_it_but_not_for_ever(
    sessions: Sessions, clock: ManualClock, valkey_url: str
) -> None:
    login = await sessions.begin(DIGEST)
    async with redis.Redis.from_url(valkey_url) as client:
        (name,) = [n async for n in client.scan_iter("aihub:session:*")]
        await client.pexpire(name, 5_000)
        await sessions.find(login.token)
        assert await client.pttl(name) > IDLE_MS - 60_000
        clock.ms += LONGEST_MS - 30_000
        await sessions.find(login.token)
        assert await client.pttl(name) <= 30_000
    clock.ms += 30_000
    with pytest.raises(InvalidApiKey):
        await sessions.find(login.token)


async def test_the_oldest_session_of_a_key_makes_room(sessions: Sessions) -> None:
    logins = [await sessions.begin(DIGEST) for _ in range(MOST + 2)]
    for login in logins[:2]:
        with pytest.raises(InvalidApiKey):
            await sessions.find(login.token)
    for login in logins[2:]:
        await sessions.find(login.token)


async def test_without_redis_nobody_is_let_in(keyring: Keyring) -> None:
    sessions = Sessions("redis://127.0.0.1:1", keyring)
    with pytest.raises(Unavailable):
        await sessions.find("token")
    with pytest.raises(Unavailable):
        await sessions.begin(DIGEST)
    await sessions.close()


async def test_a_change_that_cannot_be_announced_is_a_change_all_the_same() -> None:
    async with redis.Redis.from_url("redis://127.0.0.1:1") as client:
        await announce(client, "key_1")
