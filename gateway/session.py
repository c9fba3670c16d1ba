"""Logins of the dashboard: a cookie names a session in Redis, which names the key that logged in.

A session may do what its key may, and ends with it: the key is looked up for every request. The
cookie's 256 bits are stored as their SHA-256 only.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
import redis.asyncio as redis
from redis.exceptions import RedisError

from gateway.auth import Keyring, Principal
from shared import keys, log
from shared.clock import Clock, SystemClock
from shared.errors import InvalidApiKey, PermissionDenied, Unavailable

COOKIE = "aihub_session"
INTENT = b"x-aihub-session"
"""A page of another site cannot send this header, so a request that has it is the dashboard's."""
IDLE_MS = 2 * 3_600_000
LONGEST_MS = 12 * 3_600_000
MOST = 32
"""Sessions of one key; the next login ends the oldest."""
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
WITHIN = 2.0
"""Seconds Redis has for one command."""

logger = log.get("session")


class Record(msgspec.Struct, array_like=True, frozen=True):
    """What Redis holds: the digest of the key, and when the session ends at the latest."""

    digest: bytes
    until_ms: int


class Login(NamedTuple):
    token: str
    until_ms: int


class Sessions:
    def __init__(self, url: str, keyring: Keyring, clock: Clock | None = None) -> None:
        self.client: redis.Redis = redis.Redis.from_url(
            url, socket_timeout=WITHIN, socket_connect_timeout=WITHIN
        )
        self._keyring = keyring
        self._clock = clock or SystemClock()

    async def begin(self, digest: bytes) -> Login:
        """A new session of the key with this digest; raises Unavailable."""
        token = secrets.token_urlsafe(32)
        until = self._clock.wall_ms() + LONGEST_MS
        name, listed = stored(token), keys.sessions(digest.hex())
        record = msgspec.msgpack.encode(Record(digest, until))
        try:
            async with self.client.pipeline(transaction=True) as batch:
                batch.set(name, record, px=IDLE_MS)
                batch.lpush(listed, name)
                batch.lrange(listed, MOST, -1)
                batch.ltrim(listed, 0, MOST - 1)
                batch.pexpire(listed, LONGEST_MS)
                _, _, oldest, _, _ = await batch.execute()
            if oldest:
                await self.client.delete(*oldest)
        except (RedisError, OSError) as error:
            raise away(error) from error
        return Login(token, until)

    async def find(self, token: str) -> Principal:
        """Whose session it is, which is used from now on; raises InvalidApiKey or Unavailable."""
        name = stored(token)
        now = self._clock.wall_ms()
        try:
            found = await self.client.get(name)
            record = None if found is None else msgspec.msgpack.decode(found, type=Record)
            if record is not None and record.until_ms > now:
                await self.client.pexpire(name, min(IDLE_MS, record.until_ms - now))
        except (RedisError, OSError) as error:
            raise away(error) from error
        account = None
        if record is not None and record.until_ms > now:
            account = await self._keyring.find_digest(record.digest)
        if account is None:
            raise InvalidApiKey("Your session has ended. Log in again.")
        return Principal(account, session=True)

    async def end(self, token: str) -> None:
        """Raises Unavailable."""
        try:
            await self.client.delete(stored(token))
        except (RedisError, OSError) as error:
            raise away(error) from error

    async def close(self) -> None:
        await self.client.aclose()


def stored(token: str) -> str:
    return keys.session(hashlib.sha256(token.encode()).hexdigest())


def away(error: Exception) -> Unavailable:
    logger.warning("sessions cannot be looked up", error=str(error))
    return Unavailable(
        "Sessions cannot be checked right now: Redis does not answer.", retry_after=2
    )


def read_cookie(headers: Mapping[bytes, bytes]) -> str | None:
    """The session's token, if the browser sent one."""
    given = headers.get(b"cookie")
    if given is None:
        return None
    try:
        morsel = SimpleCookie(given.decode("latin-1")).get(COOKIE)
    except CookieError:
        return None
    return morsel.value if morsel is not None else None


def write_cookie(token: str, seconds: int, *, secure: bool) -> bytes:
    """The value of Set-Cookie; no seconds end it."""
    flags = "; Secure" if secure else ""
    return f"{COOKIE}={token}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Strict{flags}".encode()


def check_intent(method: str, headers: Mapping[bytes, bytes]) -> None:
    """Raises PermissionDenied for a change that a page of another site may have sent."""
    if method in SAFE:
        return
    check_origin(headers)
    if INTENT not in headers:
        raise PermissionDenied(
            f"With a session, {method} needs the header {INTENT.decode()}, with any value.",
            param=INTENT.decode(),
        )


def check_origin(headers: Mapping[bytes, bytes]) -> None:
    """Raises PermissionDenied for a page of another site."""
    origin = headers.get(b"origin")
    if origin is None:
        return
    host = headers.get(b"host", b"").decode("latin-1").lower()
    if urlsplit(origin.decode("latin-1")).netloc.lower() != host:
        raise PermissionDenied("This request comes from a page of another site.", param="origin")
