"""Prices are looked up once for all who ask, remembered for 10 s, and forgotten when told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import psycopg
import pytest

from gateway.prices import KNOWN_SECONDS, Prices
from shared.catalog import Catalog
from shared.clock import Clock
from shared.errors import Unavailable
from shared.settings import Model
from shared.wire.account import Price

CATALOG = Catalog(
    {
        "m": Model(engine="llamacpp", file="m.gguf", adapters={"cheap": "a", "plain": "b"}),
        "free": Model(engine="llamacpp", file="f.gguf"),
    }
)
TABLE = {"m": Price(input=5), "cheap": Price(input=1)}


class Hand(Clock):
    """A clock set by hand."""

    at = 0.0

    def now(self) -> float:
        return self.at

    def wall_ms(self) -> int:
        return int(self.at * 1000)


class Table:
    def __init__(self) -> None:
        self.looks = 0
        self.rows: Mapping[str, Price] = TABLE
        self.away = False

    async def load(self) -> Mapping[str, Price]:
        self.looks += 1
        rows = self.rows
        await asyncio.sleep(0)
        if self.away:
            raise psycopg.OperationalError("away")
        return rows


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def prices(table: Table, clock: Hand) -> Prices:
    return Prices(table.load, clock)


async def test_an_adapter_costs_what_its_base_does_unless_it_has_its_own(prices: Prices) -> None:
    found = [await prices.find(CATALOG.find(name)) for name in ("m", "cheap", "plain", "free")]
    assert found == [Price(input=5), Price(input=1), Price(input=5), None]


async def test_all_who_ask_at_a_time_share_one_look(prices: Prices, table: Table) -> None:
    await asyncio.gather(*(prices.find(CATALOG.find("m")) for _ in range(20)))
    assert table.looks == 1


async def test_a_look_lasts_ten_seconds(prices: Prices, table: Table, clock: Hand) -> None:
    await prices.find(CATALOG.find("m"))
    table.rows = {}
    clock.at += KNOWN_SECONDS
    assert await prices.find(CATALOG.find("m")) == Price(input=5)
    clock.at += 0.1
    assert await prices.find(CATALOG.find("m")) is None


async def test_what_was_looked_up_before_a_change_is_not_believed_after_it(
    prices: Prices, table: Table
) -> None:
    early = asyncio.create_task(prices.find(CATALOG.find("m")))
    while not table.looks:  # noqa: ASYNC110
        await asyncio.sleep(0)
    table.rows = {"m": Price(input=9)}
    prices.forget()
    assert await prices.find(CATALOG.find("m")) == Price(input=9)
    assert await early == Price(input=9)


async def test_without_the_database_nothing_is_taken_for_free(prices: Prices, table: Table) -> None:
    table.away = True
    with pytest.raises(Unavailable, match="database does not answer"):
        await prices.find(CATALOG.find("m"))
    table.away = False
    assert await prices.find(CATALOG.find("m")) == Price(input=5)
