"""What models cost. A model without a price is free; an adapter without one costs its base's."""

from __future__ import annotations

import msgspec

from shared.db import Connection, Pool, queries
from shared.store.window import ONE, Window, columns, locked, rows
from shared.wire.account import Price
from shared.wire.admin import PriceObject

SQL = queries("price")


async def load(pool: Pool) -> dict[str, Price]:
    """All prices by model."""
    async with pool.connection() as connection:
        cursor = await connection.execute(SQL["all_prices"])
        found = await cursor.fetchall()
    return {row.pop("model"): msgspec.convert(row, Price) for row in found}


async def put(connection: Connection, model: str, price: Price) -> None:
    await connection.execute(SQL["put_price"], {"model": model, **columns(price)})


async def delete(connection: Connection, model: str) -> None:
    await connection.execute(SQL["delete_price"], {"model": model})


async def find(connection: Connection, model: str, *, lock: bool = False) -> PriceObject | None:
    if lock and not await locked(connection, SQL["lock_price"], {"model": model}):
        return None
    found = await select(connection, ONE, model=model)
    return found[0] if found else None


async def select(
    connection: Connection, window: Window, *, model: str | None = None
) -> list[PriceObject]:
    values = {"model": model, **window._asdict()}
    return await rows(connection, SQL["find_prices"], values, PriceObject)
