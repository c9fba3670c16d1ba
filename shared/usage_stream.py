"""Usage events on their way to the ledger."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shared import keys, log
from shared.resp import Argument
from shared.script import LinkLike, Script
from shared.wire import usage

MOST_EVENTS = 1_000_000
"""Usage events that wait for the database, some 200 MB. Those that find no room are in the log of
whoever ended the request and counted; use that is over cannot be refused any more."""

logger = log.get("usage")

_record = Script("record")


async def record(link: LinkLike, events: Sequence[bytes]) -> None:
    """Writes UsageEvents down of requests that were no jobs."""
    values: list[Argument] = [MOST_EVENTS, *events]
    taken = await _record.run(link, (keys.USAGE, keys.USAGE_LOST), values)
    for used in events[taken:]:
        lament(used)


def lament(used: bytes) -> None:
    """The log is the last place where a UsageEvent can be kept."""
    told = msgspec.json.encode(msgspec.structs.asdict(usage.decode(used))).decode()
    logger.error("a usage event found no place but this", used=told)
