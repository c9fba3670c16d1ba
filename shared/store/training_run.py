"""Measured runs of fine-tuning: the newest of each setup."""

from __future__ import annotations

import msgspec

from shared.db import Connection, queries
from shared.store.window import rows
from shared.training_run import Ran

SQL = queries("training_run")
MOST = 1000
"""Setups of one device that are looked at."""


async def record(connection: Connection, ran: Ran) -> None:
    await connection.execute(SQL["record_training_run"], msgspec.structs.asdict(ran))


async def select(connection: Connection, device: str) -> list[Ran]:
    """Those on this kind of device, the newest first."""
    return await rows(connection, SQL["find_training_runs"], {"device": device, "limit": MOST}, Ran)
