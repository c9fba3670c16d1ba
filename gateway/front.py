"""What every request passes: its id, its key, its errors, its log line, its count."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from litestar import asgi
from litestar.handlers import ASGIRouteHandler
from litestar.types import Receive, Scope, Send

from gateway.auth import Keyring
from gateway.counts import Counts
from gateway.exchange import Exchange
from shared import log
from shared.errors import ClientClosed, HubError, MethodNotAllowed

Handle = Callable[[Exchange], Awaitable[None]]

logger = log.get("gateway")


class Front:
    def __init__(self, keyring: Keyring, counts: Counts) -> None:
        self._keyring = keyring
        self._counts = counts

    def route(
        self,
        name: str,
        paths: list[str],
        methods: tuple[str, ...],
        handle: Handle,
        *,
        public: bool = False,
        is_mount: bool = False,
    ) -> ASGIRouteHandler:
        """A Litestar route; `name` is what the log and the counts call it."""
        allowed = frozenset(methods) | ({"HEAD"} if "GET" in methods else set())

        @asgi(paths, is_mount=is_mount, copy_scope=False)
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            exchange = Exchange(scope, receive, send)  # type: ignore[arg-type]
            try:
                if allowed and exchange.method not in allowed:
                    await self._other_method(exchange, allowed)
                    return
                if not public:
                    authorization = exchange.headers.get(b"authorization")
                    exchange.principal = await self._keyring.find(authorization)
                await handle(exchange)
            except ClientClosed as left:
                exchange.status = left.status
            except HubError as error:
                await exchange.refuse(error.failed())
            except Exception:
                logger.exception("request broke", request=exchange.id, path=exchange.path)
                if not exchange.status:
                    broken = HubError("Something broke in the hub; its log has the request's id.")
                    await exchange.refuse(broken.failed())
            finally:
                self._note(name, exchange)

        return serve

    async def _other_method(self, exchange: Exchange, allowed: frozenset[str]) -> None:
        allow = (b"allow", ", ".join(sorted(allowed | {"OPTIONS"})).encode())
        if exchange.method == "OPTIONS":
            await exchange.respond(204, b"", allow)
            return
        exchange.extra.append(allow)
        raise MethodNotAllowed(
            f"{exchange.method} is not allowed here; allowed are {allow[1].decode()}."
        )

    def _note(self, name: str, exchange: Exchange) -> None:
        seconds = exchange.seconds
        self._counts.requests.add(1, (name, str(exchange.status)))
        self._counts.seconds.observe(seconds, (name,))
        logger.info(
            "request",
            route=name,
            status=exchange.status,
            ms=round(seconds * 1000, 1),
            request=exchange.id,
            client_request=exchange.client_id.decode() if exchange.client_id else None,
            model=exchange.model,
            owner=exchange.principal.id if exchange.principal else None,
        )
