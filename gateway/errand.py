"""What the hub asks of a model by itself on behalf of a request: its project pays.

It is written down in the ledger as a request of the key's own, and counts against its budgets but
not against its limits: nobody is refused for what he did not send.
"""

from __future__ import annotations

from msgspec.structs import replace

from gateway.dispatch import Dispatch
from gateway.reply import Reply
from gateway.worst import Worst
from shared import ids
from shared.catalog import Entry
from shared.wire.account import Account, Limits
from shared.wire.task import Class, Kind, Origin

ENDPOINTS: dict[Kind, str] = {
    "chat": "chat/completions",
    "completion": "completions",
    "embedding": "embeddings",
}


async def run(
    dispatch: Dispatch,
    kind: Kind,
    entry: Entry,
    body: bytes,
    account: Account,
    service: Class,
    worst: Worst,
) -> Reply:
    """Queues it, to be answered in one piece; raises what Dispatch.open does."""
    request = ids.new("req_")
    payer = replace(account, key_limits=Limits(), project_limits=Limits())
    reservation = await dispatch.reservations.make(payer, entry, worst, ids.wall_ms(request))
    return await dispatch.open(
        kind,
        entry,
        body,
        key=account.key,
        streamed=False,
        service=service,
        origin=Origin(request, account.project, ENDPOINTS[kind]),
        reservation=reservation,
    )
