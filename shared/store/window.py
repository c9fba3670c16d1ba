"""Which part of a list is read, and the rows that come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, LiteralString, NamedTuple, TypeVar

import msgspec

from shared.db import Connection

T = TypeVar("T")


class Window(NamedTuple):
    """`limit` entries behind the one whose id is `after`; `down`: the largest id first."""

    limit: int
    after: str | None = None
    down: bool = False


ONE = Window(1)


async def rows(
    connection: Connection, query: LiteralString, values: Mapping[str, object], kind: type[T]
) -> list[T]:
    cursor = await connection.execute(query, values)
    return [msgspec.convert(row, kind) for row in await cursor.fetchall()]


async def locked(
    connection: Connection, query: LiteralString, values: Mapping[str, object]
) -> bool:
    """Whether there is such a row; it is then this transaction's."""
    cursor = await connection.execute(query, values)
    return await cursor.fetchone() is not None


def columns(struct: msgspec.Struct) -> dict[str, Any]:
    return msgspec.structs.asdict(struct)
