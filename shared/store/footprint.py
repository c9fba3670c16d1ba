"""Measured sizes of loaded models, and what was too little for one: a row of each for each way of
loading one on one kind of device.
"""

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


async def find_shortfall(pool: Pool, key: Key, weights: int) -> int:
    """Bytes that a start of these weights needs at least; 0: none ran out of memory."""
    values = msgspec.structs.asdict(key) | {"weights": weights}
    async with pool.connection() as connection:
        cursor = await connection.execute(SQL["find_shortfall"], values)
        row = await cursor.fetchone()
    return 0 if row is None else int(row["least_bytes"])


async def record_shortfall(pool: Pool, key: Key, weights: int, least: int) -> None:
    """Keep that a start of these weights with fewer than `least` bytes runs out of memory."""
    values = msgspec.structs.asdict(key) | {"weights": weights, "least": least}
    async with pool.connection() as connection:
        await connection.execute(SQL["record_shortfall"], values)
