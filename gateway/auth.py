"""Who is asking: a Bearer key to a Principal, with a short memory of keys already looked up."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

import redis.asyncio as redis
from psycopg import Error as DatabaseError

from shared import keys, log
from shared.clock import Clock, SystemClock
from shared.errors import InvalidApiKey, Unavailable
from shared.store.api_key import digest
from shared.wire.account import Account, Scope

KNOWN_SECONDS = 10.0
UNKNOWN_SECONDS = 1.0
MOST_KEYS = 4096
LOOKUP_SECONDS = 2.0
RECONNECT_SECONDS = 0.5

logger = log.get("auth")

Find = Callable[[bytes], Awaitable[Account | None]]


class Principal(NamedTuple):
    """Whose request it is; `session`: by a login of the dashboard, not by the key itself."""

    account: Account
    session: bool = False

    @property
    def id(self) -> str:
        """Names the key, not its secret."""
        return self.account.key

    def may(self, scope: Scope) -> bool:
        return self.account.may(scope)


class Known(NamedTuple):
    until: float
    key: Account | None


class Keyring:
    """Looks keys up by digest. A revoked key is refused at once, or after 10 s without Redis."""

    def __init__(self, find: Find, clock: Clock | None = None) -> None:
        self._find = find
        self._clock = clock or SystemClock()
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        self._asked: dict[bytes, asyncio.Task[Account | None]] = {}
        self._changes = 0

    async def find(self, authorization: bytes | None) -> Principal:
        """The owner of an Authorization header; raises InvalidApiKey or Unavailable."""
        secret = read_bearer(authorization)
        account = await self.find_digest(digest(secret))
        if account is None:
            raise InvalidApiKey(f"Incorrect API key provided: {mask(secret)}.")
        return Principal(account)

    async def find_digest(self, fingerprint: bytes) -> Account | None:
        """The account of a key that is in force; raises Unavailable."""
        known = self._known.get(fingerprint)
        if known is None or known.until < self._clock.now():
            account = await self._look_up(fingerprint)
        else:
            self._known.move_to_end(fingerprint)
            account = known.key
        return None if account is None or expired(account) else account

    def forget(self) -> None:
        """Look every key up again; what is being looked up now may be old already."""
        self._changes += 1
        self._asked.clear()
        self._known.clear()

    async def _look_up(self, fingerprint: bytes) -> Account | None:
        """Requests that ask for one key at a time share one query."""
        asked = self._asked.get(fingerprint)
        if asked is None:
            asked = asyncio.create_task(self._ask(fingerprint))
            self._asked[fingerprint] = asked
            asked.add_done_callback(lambda done: self._answered(fingerprint, done))
        try:
            return await asyncio.shield(asked)
        except (DatabaseError, TimeoutError, OSError) as error:
            logger.warning("keys cannot be looked up", error=str(error))
            raise Unavailable(
                "The key cannot be checked right now: the database does not answer.",
                retry_after=2,
            ) from error

    def _answered(self, fingerprint: bytes, done: asyncio.Task[Account | None]) -> None:
        if self._asked.get(fingerprint) is done:
            del self._asked[fingerprint]

    async def _ask(self, fingerprint: bytes) -> Account | None:
        changes = self._changes
        async with asyncio.timeout(LOOKUP_SECONDS):
            key = await self._find(fingerprint)
        if changes != self._changes:
            return key
        lasts = KNOWN_SECONDS if key is not None else UNKNOWN_SECONDS
        self._known[fingerprint] = Known(self._clock.now() + lasts, key)
        self._known.move_to_end(fingerprint)
        if len(self._known) > MOST_KEYS:
            self._known.popitem(last=False)
        return key


def read_bearer(authorization: bytes | None) -> str:
    if authorization is None:
        raise InvalidApiKey(
            "You didn't provide an API key. Send it in the Authorization header: Bearer YOUR_KEY."
        )
    scheme, _, secret = authorization.decode("latin-1").partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret:
        raise InvalidApiKey("The Authorization header must read: Bearer YOUR_KEY.")
    return secret


def expired(key: Account) -> bool:
    return key.expires_at is not None and key.expires_at <= datetime.now(UTC)


def mask(secret: str) -> str:
    """What an error may show of a key: enough to recognise it, too little to guess it."""
    return f"{secret[:6]}…{secret[-4:]}" if len(secret) >= 24 else "…"


class Forgetful(Protocol):
    """What is looked up in the database and remembered for a while."""

    def forget(self) -> None: ...


async def watch_changes(url: str, *known: Forgetful) -> None:
    """Forgets what is known when some was changed, and whenever a change may have been missed."""
    client = redis.Redis.from_url(url)
    try:
        while True:
            with contextlib.suppress(redis.RedisError, OSError):
                async with client.pubsub() as subscription:
                    await subscription.subscribe(keys.KEYS_CHANGED)
                    async for _ in subscription.listen():
                        forget(known)
            forget(known)
            await asyncio.sleep(RECONNECT_SECONDS)
    finally:
        await client.aclose()


def forget(known: Iterable[Forgetful]) -> None:
    for each in known:
        each.forget()
