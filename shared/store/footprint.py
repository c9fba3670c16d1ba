"""Measured sizes of loaded models, one row for each way of loading one on one kind of device."""

from __future__ import annotations

import msgspec

from shared.db import Pool, queries
from shared.footprint import SETTLED, Footprint, Key

SQL = queries("footprint")


async def find(pool: Pool, key: Key) -> Footprint | None:
    """The newest measurement, None when there is none."""
    async with pool.connection() as connection:
        cursor = await connection.execute(SQL["find_footprint"], msgspec.structs.asdict(key))
        row = await cursor.fetchone()
    return None if row is None else msgspec.convert(row, Footprint)


async def record(pool: Pool, key: Key, footprint: Footprint) -> None:
    """Keep a measurement in place of the older one. `measured_at` is set by the database.

    One that served fewer requests than the kept one, and fewer than SETTLED, changes nothing
    as long as the weights are the same.
    """
    values = msgspec.structs.asdict(footprint) | msgspec.structs.asdict(key)
    async with pool.connection() as connection:
        await connection.execute(SQL["record_footprint"], values | {"settled": SETTLED})
