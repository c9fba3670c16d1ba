"""POST, GET and DELETE /api/v1/session: log in with a key, who am I, log out."""

from __future__ import annotations

import msgspec

from gateway.auth import Keyring, Principal, read_bearer
from gateway.exchange import JSON, Exchange
from gateway.front import Front
from gateway.routes.admin.desk import Call, Desk, Done
from gateway.session import LONGEST_MS, Login, Sessions, check_origin, read_cookie, write_cookie
from shared.errors import InvalidApiKey
from shared.store.api_key import digest
from shared.store.audit import Change
from shared.wire.account import Scope
from shared.wire.openai import error

LARGEST = 4096
"""Bytes of a login."""


class LoginRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The key, unless it is in the Authorization header."""

    key: str | None = None


class SessionObject(msgspec.Struct, frozen=True):
    """Who asks. `session`: by a login, not by the key itself."""

    key: str
    name: str
    project: str
    scopes: tuple[Scope, ...]
    models: tuple[str, ...]
    session: bool
    expires_at: int | None = None
    object: str = "session"


DECODER = msgspec.json.Decoder(LoginRequest)


class SessionRoute:
    def __init__(self, front: Front, keyring: Keyring, sessions: Sessions, desk: Desk) -> None:
        self._front = front
        self._keyring = keyring
        self._sessions = sessions
        self._desk = desk

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.method == "POST":
            await self._begin(exchange)
            return
        exchange.principal = await self._front.identify(exchange)
        if exchange.method == "DELETE":
            await self._end(exchange)
        else:
            await exchange.respond(200, told(exchange.principal), JSON)

    async def _begin(self, exchange: Exchange) -> None:
        check_origin(exchange.headers)
        body = await exchange.read(LARGEST)
        asked = error.decode(DECODER, body or b"{}")
        secret = asked.key or read_bearer(exchange.headers.get(b"authorization"))
        fingerprint = digest(secret)
        account = await self._keyring.find_digest(fingerprint)
        if account is None:
            raise InvalidApiKey("Incorrect API key provided.")
        exchange.principal = Principal(account, session=True)

        async def logged_in(call: Call) -> Done:
            # A session whose audit row is not kept is one whose cookie nobody gets.
            login = await self._sessions.begin(fingerprint)
            return Done(login, [told_of("login.succeeded", call)], announced=False)

        login = await self._desk.change(exchange, b"", logged_in)
        assert isinstance(login, Login)
        cookie = write_cookie(login.token, LONGEST_MS // 1000, secure=is_secure(exchange))
        reply = told(exchange.principal, login.until_ms // 1000)
        await exchange.respond(200, reply, JSON, (b"set-cookie", cookie))

    async def _end(self, exchange: Exchange) -> None:
        token = read_cookie(exchange.headers)
        if token is not None and exchange.principal is not None and exchange.principal.session:
            await self._desk.change(exchange, b"", logged_out)
            await self._sessions.end(token)
        cookie = write_cookie("", 0, secure=is_secure(exchange))
        await exchange.respond(204, b"", (b"set-cookie", cookie))


async def logged_out(call: Call) -> Done:
    return Done(None, [told_of("logout.succeeded", call)], announced=False)


def told_of(action: str, call: Call) -> Change:
    return Change(action, call.account.key, project=call.account.project)


def told(principal: Principal, expires_at: int | None = None) -> bytes:
    account = principal.account
    return msgspec.json.encode(
        SessionObject(
            account.key,
            account.name,
            account.project,
            account.scopes,
            account.models,
            principal.session,
            expires_at,
        )
    )


def is_secure(exchange: Exchange) -> bool:
    """Whether the browser came over TLS, here or at a proxy before us."""
    return exchange.headers.get(b"x-forwarded-proto", b"").lower() == b"https"
