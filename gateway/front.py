"""What every request passes: its id, its key, its errors, its log line, its count."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from litestar import Request, Response, asgi
from litestar.datastructures import State
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.handlers import ASGIRouteHandler
from litestar.types import Receive, Scope, Send

from gateway.auth import Keyring, Principal
from gateway.counts import Counts
from gateway.exchange import Exchange, refusal
from gateway.record import Record
from gateway.session import Sessions, check_intent, read_cookie
from gateway.use import unqueued
from shared import log
from shared.errors import (
    ClientClosed,
    HubError,
    InvalidRequest,
    MethodNotAllowed,
    PermissionDenied,
)
from shared.wire import account
from shared.wire.openai.error import encode

AnyRequest = Request[object, object, State]
BROKEN = "Something broke in the hub; its log has the request's id."

Handle = Callable[[Exchange], Awaitable[None]]

logger = log.get("gateway")


def not_allowed(method: str, allowed: str) -> MethodNotAllowed:
    return MethodNotAllowed(f"{method} is not allowed here; allowed are {allowed}.")


def permit(principal: Principal, scope: account.Scope | None) -> None:
    """Raises PermissionDenied for a key without that scope; None: any key does."""
    if scope is not None and not principal.may(scope):
        raise PermissionDenied(f"This key may not do that: it lacks the scope {scope!r}.")


def translate(error: Exception, exchange: Exchange) -> HubError:
    if isinstance(error, HubError):
        return error
    if isinstance(error, MethodNotAllowedException):
        allowed = (error.headers or {}).get("Allow", "")
        exchange.extra.append((b"allow", allowed.encode()))
        return not_allowed(exchange.method, allowed)
    if isinstance(error, NotFoundException):
        return exchange.unknown()
    if isinstance(error, HTTPException) and error.status_code < 500:
        return InvalidRequest(error.detail)
    return HubError(BROKEN)


class Front:
    def __init__(
        self, keyring: Keyring, sessions: Sessions, counts: Counts, record: Record
    ) -> None:
        self._keyring = keyring
        self._sessions = sessions
        self._counts = counts
        self._record = record

    def route(
        self,
        name: str,
        paths: list[str],
        methods: tuple[str, ...],
        handle: Handle,
        *,
        public: bool = False,
        known: bool = False,
        needs: account.Scope | None = None,
        reads: account.Scope | None = None,
        metered: str = "",
        quiet: bool = False,
        is_mount: bool = False,
    ) -> ASGIRouteHandler:
        """A Litestar route; `name` is what the log and the counts call it.

        `needs` is the scope that a key must have, `reads` the one that does for GET and HEAD.
        `known`: any key does, and the route sees to what it may.
        `metered` is the endpoint that the ledger has its requests under, once their key is known.
        `quiet` requests are logged for debugging only.
        """
        if needs is None and not public and not known:
            raise ValueError(f"route {name} says neither its scope nor that it is public")
        allowed = {*methods, "OPTIONS", *(("HEAD",) if "GET" in methods else ())}

        @asgi(paths, is_mount=is_mount, copy_scope=False)
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            exchange = Exchange(scope, receive, send)  # type: ignore[arg-type]
            exchange.use.endpoint = metered
            try:
                if exchange.method not in methods and await self._other_method(exchange, allowed):
                    return
                if not public:
                    exchange.principal = who = await self.identify(exchange)
                    permit(who, reads if exchange.method in ("GET", "HEAD") and reads else needs)
                await handle(exchange)
            except ClientClosed as left:
                exchange.status, exchange.use.code = left.status, left.code
            except HubError as error:
                await exchange.refuse(error.failed())
            except Exception:
                logger.exception("request broke", request=exchange.id, path=exchange.path)
                if not exchange.status:
                    await exchange.refuse(HubError(BROKEN).failed())
            finally:
                self._write_down(exchange)
                self._note(name, exchange, quiet=quiet)

        return serve

    async def identify(self, exchange: Exchange) -> Principal:
        """Who sent it: by the key, else by the session that a browser's cookie names.

        Raises InvalidApiKey, Unavailable, or PermissionDenied for what another site may have sent.
        """
        authorization = exchange.headers.get(b"authorization")
        token = read_cookie(exchange.headers) if authorization is None else None
        if token is None:
            return await self._keyring.find(authorization)
        check_intent(exchange.method, exchange.headers)
        return await self._sessions.find(token)

    def refuse(self, request: AnyRequest, error: Exception) -> Response[bytes]:
        """Litestar's exception handler: paths nobody serves, and what its own routes raise."""
        exchange = Exchange(request.scope, request.receive, request.send)
        failed = translate(error, exchange).failed()
        if failed.status >= 500:
            logger.error("request broke", request=exchange.id, exc_info=error)
        exchange.status = failed.status
        headers = [*refusal(failed), *exchange.own_headers()]
        self._note("other", exchange)
        return Response(
            encode(failed),
            status_code=failed.status,
            headers={name.decode(): value.decode("latin-1") for name, value in headers},
            media_type="application/json",
        )

    async def _other_method(self, exchange: Exchange, allowed: set[str]) -> bool:
        """Answers OPTIONS, lets HEAD through where GET is, refuses the rest."""
        if exchange.method == "HEAD" and "HEAD" in allowed:
            return False
        allow = (b"allow", ", ".join(sorted(allowed)).encode())
        exchange.extra.append(allow)
        if exchange.method != "OPTIONS":
            raise not_allowed(exchange.method, allow[1].decode())
        await exchange.respond(204, b"")
        return True

    def _write_down(self, exchange: Exchange) -> None:
        """The use of a request that was no job."""
        who, use = exchange.principal, exchange.use
        if use.endpoint and who is not None and not use.queued:
            status = exchange.status or 500
            self._record.add(unqueued(exchange.id, who.account, use, status, exchange.seconds))

    def _note(self, name: str, exchange: Exchange, *, quiet: bool = False) -> None:
        """Counts and logs; what probes ask all the time is logged for debugging only."""
        seconds = exchange.seconds
        self._counts.requests.add(1, (name, str(exchange.status)))
        self._counts.seconds.observe(seconds, (name,))
        told = {"request": exchange.id, "route": name, "status": exchange.status}
        if exchange.client_id is not None:
            told["client_request"] = exchange.client_id.decode()
        if exchange.model is not None:
            told["model"] = exchange.model
        if exchange.principal is not None:
            told["owner"] = exchange.principal.id
        tell = logger.debug if quiet else logger.info
        tell("request", ms=round(seconds * 1000, 1), **told)
