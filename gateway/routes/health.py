"""GET /health/live, /health/ready and /metrics."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.counts import Counts
from gateway.exchange import JSON, Exchange

TEXT = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


class HealthRoutes:
    """`missing` says what stands between this gateway and an answer, by name.

    `failed` lists the models that do not start; the others are served all the same.
    """

    def __init__(
        self,
        missing: Callable[[], dict[str, str]],
        failed: Callable[[], list[str]],
        counts: Counts,
    ) -> None:
        self._missing = missing
        self._failed = failed
        self._counts = counts

    async def live(self, exchange: Exchange) -> None:
        await exchange.respond(200, b'{"status":"live"}', JSON)

    async def ready(self, exchange: Exchange) -> None:
        missing = self._missing()
        if missing:
            body = msgspec.json.encode({"status": "not ready", "missing": missing})
            await exchange.respond(503, body, JSON, (b"retry-after", b"1"))
        else:
            body = msgspec.json.encode({"status": "ready", "failed_models": self._failed()})
            await exchange.respond(200, body, JSON)

    async def metrics(self, exchange: Exchange) -> None:
        await exchange.respond(200, self._counts.text().encode(), TEXT)
