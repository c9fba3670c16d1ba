"""GET /api/v1/requests/ID: what one request used."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from gateway.exchange import JSON, Exchange
from gateway.pipeline import Pipeline
from gateway.routes.admin.desk import Call, Desk
from gateway.routes.admin.query import Query
from shared.errors import NotFound
from shared.store import usage_report
from shared.wire.usage import UsageEvent

BASE = "/api/v1/requests"
ID = re.compile(r"^(?:[a-z]+[_-])?([0-9a-f]{32})$")
"""With the prefix of the header x-request-id, or of the object that was answered."""

encode = msgspec.json.Encoder().encode


class ReceiptRoute:
    def __init__(self, desk: Desk, pipeline: Pipeline) -> None:
        self._desk = desk
        self._pipeline = pipeline

    async def __call__(self, exchange: Exchange) -> None:
        Query(exchange.query, ())
        given = exchange.path.removeprefix(BASE).strip("/")
        match = ID.match(given)
        if match is None:
            raise unknown(given)
        request_id = f"req_{match[1]}"
        # It leaves the stream only when it is in the table.
        waiting = await self._pipeline.find(request_id)
        event = waiting or await self._written(exchange, request_id)
        if event is None or not permitted(exchange, event):
            raise unknown(given)
        await exchange.respond(200, encode(receipt(event, pending=waiting is not None)), JSON)

    async def _written(self, exchange: Exchange, request_id: str) -> UsageEvent | None:
        async def find(call: Call) -> UsageEvent | None:
            return await usage_report.find(call.connection, request_id)

        return await self._desk.find(exchange, find)


def permitted(exchange: Exchange, event: UsageEvent) -> bool:
    account = exchange.account
    return event.key == account.key or account.may("admin.read")


def unknown(given: str) -> NotFound:
    return NotFound(
        f"No request that has ended and that this key may see has the id {given!r}.", param="id"
    )


def receipt(event: UsageEvent, *, pending: bool) -> dict[str, Any]:
    """`pending`: it is on its way to the ledger, and in no report yet."""
    line = msgspec.structs.asdict(event)
    return {
        "object": "request.receipt",
        "id": line.pop("request_id"),
        "created_at_ms": line.pop("ts_ms"),
        "pending": pending,
        "class": line.pop("service"),
        **line,
    }
