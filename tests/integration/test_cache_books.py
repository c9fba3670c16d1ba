"""Kept answers in a real Redis: bounds, books, purges, and who computes for all."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Iterator

import pytest
import redis

from shared import cache, keys
from shared.cache import Place, Room, Size
from shared.resp import Link

ROOM = Room(64 * 1024, 60_000)
ANY, NEVER = -1, 0


@pytest.fixture
def server(valkey_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey_url) as client:
        yield client


def at(name: str, project: str = "p", model: str = "m", version: str = "") -> Place:
    digest = hashlib.sha256(f"{name} {project} {model} {version}".encode()).hexdigest()
    return Place(digest, project, model, version, keys.flight(digest, "interactive"))


async def kept(link: Link, place: Place) -> bytes | None:
    looked = await cache.look(link, place, "", ANY)
    return looked.data if looked.what == "hit" else None


async def keep(link: Link, place: Place, data: bytes, room: Room = ROOM) -> bool:
    began = (await cache.look(link, place, "", NEVER)).at_ms
    return await cache.keep(link, place, "", data, began, room)


def counted(server: redis.Redis) -> Size:
    """What Redis really has of answers, by its own count."""
    names = list(server.scan_iter(keys.ANSWER + "*"))
    return Size(len(names), sum(server.strlen(name) for name in names))


async def assert_exact(link: Link, server: redis.Redis, room: Room = ROOM) -> Size:
    """The books say what there is, and it is within the room."""
    size, there = await cache.measure(link), counted(server)
    assert size.answers == there.answers
    assert size.bytes == there.bytes + there.answers * cache.OVERHEAD
    assert size.bytes <= room.bytes
    assert server.zcard(keys.CACHE[2]) == server.zcard(keys.CACHE[3]) == size.answers
    return size


async def test_an_answer_is_found_until_it_ends(link: Link, server: redis.Redis) -> None:
    assert await keep(link, at("a"), b"one")
    assert await keep(link, at("a"), b"two")
    assert await kept(link, at("a")) == b"two"
    assert await kept(link, at("a", project="q")) is None
    assert await keep(link, at("b"), b"short", Room(ROOM.bytes, 1))
    async with asyncio.timeout(5):
        while await kept(link, at("b")):  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    assert await assert_exact(link, server) == Size(1, 3 + cache.OVERHEAD)


async def test_who_wants_it_younger_does_not_get_it(link: Link) -> None:
    await keep(link, at("a"), b"one")
    async with asyncio.timeout(5):
        while (await cache.look(link, at("a"), "", ANY)).age_ms < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    assert (await cache.look(link, at("a"), "", 1)).what == "alone"
    assert (await cache.look(link, at("a"), "", 60_000)).what == "hit"


async def test_the_bytes_never_pass_the_bound(link: Link, server: redis.Redis) -> None:
    chance = random.Random(4)
    for number in range(400):
        data = chance.randbytes(chance.choice((1, 200, 3_000, 20_000)))
        life = chance.choice((1, 60_000))
        assert await keep(link, at(str(chance.randrange(120))), data, Room(ROOM.bytes, life))
        if number % 20 == 0:
            await assert_exact(link, server)
    for number in range(40):
        await keep(link, at(f"more {number}"), b"x" * 3_000)
    assert (await assert_exact(link, server)).bytes > ROOM.bytes - 2 * 3_000
    assert not await keep(link, at("large"), b"x" * ROOM.bytes)


async def test_redis_takes_no_more_than_the_books_say(link: Link, server: redis.Redis) -> None:
    room = Room(4 * 1024 * 1024, 60_000)
    before = server.info("memory")["used_memory"]
    for number in range(3_000):
        await keep(link, at(str(number)), b"x" * (number % 1_000), room)
    size = await assert_exact(link, server, room)
    taken = server.info("memory")["used_memory"] - before
    names = [*keys.CACHE, *server.scan_iter(keys.ANSWER + "*")]
    measured = sum(server.memory_usage(name, samples=0) for name in names)
    assert measured <= size.bytes
    assert taken <= size.bytes * 1.1


async def test_what_was_not_used_for_longest_goes_first(link: Link) -> None:
    room = Room(3 * (cache.OVERHEAD + 10), 60_000)
    for name in "abc":
        await keep(link, at(name), b"x" * 10, room)
        await asyncio.sleep(0.002)
    assert await kept(link, at("a"))
    await asyncio.sleep(0.002)
    await keep(link, at("d"), b"x" * 10, room)
    assert [bool(await kept(link, at(name))) for name in "abcd"] == [True, False, True, True]


async def test_a_sweep_drops_what_ended_and_what_a_smaller_room_has_no_place_for(
    link: Link, server: redis.Redis
) -> None:
    for number in range(20):
        await keep(link, at(str(number)), b"x", Room(ROOM.bytes, 1 if number % 2 else 60_000))
    async with asyncio.timeout(5):
        while (await cache.sweep(link, ROOM.bytes)).answers > 10:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    assert (await assert_exact(link, server)).answers == 10
    assert (await cache.sweep(link, 3 * (cache.OVERHEAD + 1))).answers == 3
    await assert_exact(link, server)
    assert await cache.sweep(link, 0) == Size(0, 0)
    assert counted(server) == Size(0, 0)


async def test_an_answer_that_redis_lost_is_taken_off_the_books(
    link: Link, server: redis.Redis
) -> None:
    await keep(link, at("a"), b"one")
    server.delete(keys.answer(at("a").digest))
    assert await kept(link, at("a")) is None
    assert await cache.measure(link) == Size(0, 0)


async def test_purge_by_model_and_project(link: Link, server: redis.Redis) -> None:
    for project in "pq":
        for model in "mn":
            for number in range(20):
                await keep(link, at(str(number), project, model), b"x")
    assert await cache.purge(link, "none") == 0
    assert await cache.purge(link, "p", ["m"]) == 20
    assert await cache.purge(link, models=["n", "o"]) == 40
    assert (await assert_exact(link, server)).answers == 20
    assert await cache.purge(link) == 20
    assert await assert_exact(link, server) == Size(0, 0)


async def test_an_adapter_goes_with_its_model_or_alone(link: Link) -> None:
    for version in ("", "law@1", "law@2"):
        await keep(link, at("a", version=version), b"x")
    await keep(link, at("a", model="n"), b"x")
    assert await cache.purge(link, models=["law@1"]) == 1
    began = (await cache.look(link, at("a", version="law@2"), "", NEVER)).at_ms
    assert await cache.purge(link, models=["m", "law@2"]) == 2
    assert not await cache.keep(link, at("a", version="law@2"), "", b"x", began, ROOM)
    assert (await cache.measure(link)).answers == 1


@pytest.mark.parametrize(
    ("project", "models", "kept"),
    [("", [], False), ("p", [], False), ("", ["m"], False), ("p", ["m"], False), ("q", [], True)],
)
async def test_what_was_begun_before_a_purge_is_not_kept_after_it(
    link: Link, project: str, models: list[str], kept: bool
) -> None:
    began = (await cache.look(link, at("a"), "gw:1", ANY)).at_ms
    await cache.purge(link, project, models)
    assert await cache.keep(link, at("a"), "gw:1", b"x", began, ROOM) is kept
    await asyncio.sleep(0.002)
    assert await keep(link, at("a"), b"x")


async def test_one_computes_and_the_others_wait(link: Link, server: redis.Redis) -> None:
    with server.pubsub(ignore_subscribe_messages=True) as told:
        told.subscribe(keys.LANDED)
        told.get_message(timeout=5)
        first = await cache.look(link, at("a"), "gw:1", ANY)
        assert first.what == "lead"
        assert (await cache.look(link, at("a"), "gw:2", ANY)).what == "follow"
        assert (await cache.look(link, at("a"), "", ANY)).what == "alone"
        assert await cache.keep(link, at("a"), "gw:1", b"x", first.at_ms, ROOM)
        assert (await cache.look(link, at("a"), "gw:2", ANY)).what == "hit"
        assert not server.exists(at("a").flight)
        message = told.get_message(timeout=5)
        assert message is not None
        assert message["data"].decode() == at("a").flight


async def test_another_takes_over_or_each_is_alone(link: Link, server: redis.Redis) -> None:
    async def what(owner: str) -> str:
        return (await cache.look(link, at("a"), owner, ANY)).what

    assert await what("gw:1") == "lead"
    assert not await cache.release(link, at("a").flight, "gw:2", alone=False)
    assert await cache.release(link, at("a").flight, "gw:1", alone=False)
    assert await what("gw:2") == "lead"
    assert await cache.release(link, at("a").flight, "gw:2", alone=True)
    assert [await what("gw:3"), await what("gw:4")] == ["alone", "alone"]
    assert 0 < server.pttl(at("a").flight) <= keys.ALONE_MS


async def test_a_lease_is_prolonged_by_its_owner_only(link: Link, server: redis.Redis) -> None:
    place, other = at("a"), at("b")
    await cache.look(link, place, "gw:1", ANY)
    await cache.look(link, other, "gw:9", ANY)
    for one in (place, other):
        server.pexpire(one.flight, 500)
    await cache.renew(link, {place.flight: "gw:1", other.flight: "gw:1"})
    assert server.pttl(place.flight) > 500 >= server.pttl(other.flight)
    server.delete(place.flight)
    await cache.renew(link, {place.flight: "gw:1"})
    assert server.get(place.flight) == b"gw:1"
