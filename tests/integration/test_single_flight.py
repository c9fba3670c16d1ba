"""Two gateways' caches on one Redis: who computes, who waits, who takes over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import redis

from gateway.cache.kept import Kept
from gateway.cache.responses import Hit, Responses, Turn
from gateway.cache.terms import USUAL, Terms
from shared import keys
from shared.cache import Place
from shared.settings import Settings
from shared.wire.event import Answer, Choice, Usage

KEPT = Kept(1, [Answer([Choice("yes", "stop")], Usage(1, 1))])
PLACE = Place("0" * 64, "p", "m", "", keys.flight("0" * 64, "interactive"))


@pytest.fixture
async def pair(valkey_url: str) -> AsyncIterator[list[Responses]]:
    settings = Settings(redis_url=valkey_url, cache_bytes=100_000)
    both = [Responses(settings, f"gw-{number}") for number in range(2)]
    for one in both:
        await one.start()
    with redis.Redis.from_url(valkey_url) as server:
        await eventually(
            lambda: dict(server.pubsub_numsub(keys.LANDED)) == {b"aihub:cache:landed": 2}
        )
    yield both
    for one in both:
        await one.stop()


async def eventually(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not there():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def nothing() -> None: ...


async def find(one: Responses, within: float = 60, terms: Terms = USUAL) -> Hit | Turn:
    return await one.find(PLACE, terms, asyncio.get_running_loop().time() + within, nothing)


async def lead(one: Responses) -> Turn:
    turn = await find(one)
    assert isinstance(turn, Turn)
    return turn


async def wait(one: Responses, count: int = 3) -> list[asyncio.Task[Hit | Turn]]:
    """So many that wait for the flight."""
    waiting = [asyncio.create_task(find(one)) for _ in range(count)]
    await eventually(lambda: len(one.flights._awaited.get(PLACE.flight, ())) == count)
    return waiting


async def test_who_waits_gets_what_another_gateway_computed(pair: list[Responses]) -> None:
    turn = await lead(pair[0])
    waiting = [*await wait(pair[0]), *await wait(pair[1])]
    await turn.keep(KEPT)
    turn.close()
    async with asyncio.timeout(0.9):
        found = await asyncio.gather(*waiting)
    assert all(isinstance(one, Hit) and one.joined and one.kept == KEPT for one in found)
    assert not any(one.flights._awaited or one.flights._led for one in pair)


async def test_one_takes_over_when_the_one_who_computes_leaves(pair: list[Responses]) -> None:
    turn = await lead(pair[0])
    waiting = [*await wait(pair[0]), *await wait(pair[1])]
    turn.close()
    done, left = await asyncio.wait(waiting, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    (second,) = (one.result() for one in done)
    assert isinstance(second, Turn)
    assert len(left) == 5
    await second.keep(KEPT)
    second.close()
    assert all(isinstance(one, Hit) for one in await asyncio.gather(*left))


async def test_one_takes_over_when_the_gateway_that_computes_is_dead(
    pair: list[Responses],
) -> None:
    turn = await lead(pair[0])
    waiting = await wait(pair[1])
    for task in pair[0]._tasks:
        task.cancel()
    async with asyncio.timeout(2 * keys.FLIGHT_MS / 1000):
        done, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    (second,) = (one.result() for one in done)
    assert isinstance(second, Turn)
    turn.close()
    await second.keep(KEPT)
    second.close()
    assert all(isinstance(one, Hit) for one in await asyncio.gather(*left))


async def test_after_a_failure_nobody_waits_for_another(pair: list[Responses]) -> None:
    turn = await lead(pair[0])
    waiting = [*await wait(pair[0]), *await wait(pair[1])]
    await turn.keep(None)
    turn.close()
    async with asyncio.timeout(0.9):
        found = await asyncio.gather(*waiting, find(pair[1]))
    assert all(isinstance(one, Turn) for one in found)
    for one in found:
        assert isinstance(one, Turn)
        one.close()


async def test_nobody_waits_beyond_his_own_time_or_harms_others_by_leaving(
    pair: list[Responses],
) -> None:
    turn = await lead(pair[0])
    waiting = await wait(pair[1])
    with pytest.raises(TimeoutError):
        await find(pair[1], within=0.05)
    waiting[0].cancel()
    await turn.keep(KEPT)
    assert all(isinstance(one, Hit) for one in await asyncio.gather(*waiting[1:]))


async def test_who_wants_it_anew_waits_for_nobody_and_replaces_it(pair: list[Responses]) -> None:
    turn = await lead(pair[0])
    fresh = await find(pair[1], terms=Terms(look=False))
    assert isinstance(fresh, Turn)
    await turn.keep(KEPT)
    await fresh.keep(Kept(2, KEPT.items))
    found = await find(pair[0])
    assert isinstance(found, Hit)
    assert found.kept.created == 2


async def test_who_waits_for_long_is_told_so(
    pair: list[Responses], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.cache.responses.TELL_SECONDS", 0.01)
    turn = await lead(pair[0])
    told = asyncio.Event()

    async def tell() -> None:
        told.set()

    end = asyncio.get_running_loop().time() + 60
    waiting = asyncio.create_task(pair[1].find(PLACE, USUAL, end, tell))
    async with asyncio.timeout(10):
        await told.wait()
    await turn.keep(KEPT)
    assert isinstance(await waiting, Hit)


async def test_without_redis_there_is_no_cache() -> None:
    one = Responses(Settings(redis_url="redis://127.0.0.1:1"), "gw")
    turn = await lead(one)
    await turn.keep(KEPT)
    turn.close()
    assert not one.flights._led
