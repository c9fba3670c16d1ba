"""The semantic cache in a real PostgreSQL with pgvector."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from gateway.semantic import shadow
from gateway.semantic.cache import LARGEST_ANSWER, OFF_SECONDS, SemanticCache
from gateway.semantic.judge import Outcome
from gateway.semantic.shadow import Shadow
from shared.db import Pool, connect, transaction
from shared.store import audit, semantic
from shared.store.audit import Filter
from shared.store.semantic import Question, Room
from shared.wire.account import SemanticCache as Chosen
from tests.integration.questions import ON, PROJECT, ask, at
from tests.unit.gateway.test_auth import ManualClock


def embedding(angle: float) -> Any:
    async def embed(_: str) -> Sequence[float]:
        return at(angle)

    return embed


async def find(cache: SemanticCache, question: Question, angle: float = 0.0) -> bytes | None:
    found = (await cache.look(question, ON, embedding(angle))).found
    return None if found is None else found.answer


async def test_a_paraphrase_gets_the_answer_and_its_opposite_does_not(pool: Pool) -> None:
    cache = SemanticCache(lambda: pool)
    assert await cache.keep(ask("How do I lock my phone?"), at(0), b"like this")
    assert await find(cache, ask("hi, how can I lock my phone?"), 0.1) == b"like this"
    assert await find(cache, ask("How do I unlock my phone?"), 0.0) is None


async def test_a_neighbour_that_is_refused_does_not_hide_one_further_off(pool: Pool) -> None:
    cache = SemanticCache(lambda: pool)
    await cache.keep(ask("How do I open it?"), at(0.0), b"open")
    await cache.keep(ask("How do I close it?"), at(0.2), b"close")
    assert await find(cache, ask("how can I close it"), 0.0) == b"close"
    assert await find(cache, ask("how can I close it"), 0.9) is None


@pytest.mark.parametrize(
    "other", [ask("Why?", scope="t"), ask("Why?", project="proj_other")], ids=["scope", "project"]
)
async def test_nothing_crosses_scopes_and_projects(pool: Pool, other: Question) -> None:
    async with pool.connection() as connection:
        await connection.execute(
            "INSERT INTO project (id, organisation_id, name)"
            " VALUES ('proj_other', 'org_default', 'other')"
        )
    cache = SemanticCache(lambda: pool)
    await cache.keep(ask("Why?"), at(0), b"because")
    assert await find(cache, other) is None
    assert await find(cache, ask("Why?")) == b"because"


async def test_another_width_of_embedding_is_not_compared(pool: Pool) -> None:
    cache = SemanticCache(lambda: pool)
    await cache.keep(ask("Why?"), [1.0, 0.0], b"because")
    assert await find(cache, ask("Why?")) is None


async def test_off_large_and_without_embedding(pool: Pool) -> None:
    cache = SemanticCache(lambda: pool)

    async def none(_: str) -> None:
        return None

    assert not await cache.keep(ask("Why?"), at(0), b"x" * (LARGEST_ANSWER + 1))
    assert not await cache.keep(ask("Why?"), None, b"x")
    await cache.keep(ask("Why?"), at(0), b"because")
    assert (await cache.look(ask("Why?"), Chosen(), embedding(0))).found is None
    assert await cache.look(ask("Why?"), ON, none) == (None, None)


async def test_the_newest_answer_to_one_text_is_the_one(pool: Pool) -> None:
    cache = SemanticCache(lambda: pool)
    await cache.keep(ask("Why?"), at(0), b"old")
    await cache.keep(ask("Why?"), at(0), b"new")
    async with pool.connection() as connection:
        assert (await semantic.measure(connection, PROJECT))[0] == 1
    assert await find(cache, ask("Why?")) == b"new"


async def test_answers_expire_and_the_oldest_make_room(pool: Pool) -> None:
    room = Room(answers=3, bytes=10_000, seconds=3600)
    for number in range(6):
        await semantic.keep(pool, ask(f"Question {number}?"), at(0), b"x", room)
    assert await semantic.trim(pool, PROJECT, room) == 3
    kept = await semantic.nearest(pool, ask("?"), at(0), 0.5)
    assert sorted(n.question for n in kept) == ["Question 3?", "Question 4?", "Question 5?"]
    await semantic.keep(pool, ask("Large?"), at(0), b"x" * 9_980, room)
    assert await semantic.trim(pool, PROJECT, room) == 3
    await semantic.keep(pool, ask("Old?"), at(0), b"x", msgspec.structs.replace(room, seconds=-1))
    assert [n.question for n in await semantic.nearest(pool, ask("?"), at(0), 0.5)] == ["Large?"]
    async with pool.connection() as connection:
        rows = await connection.execute("SELECT count(*) AS kept FROM semantic_answer")
        before = (await rows.fetchone() or {})["kept"]
        await SemanticCache(lambda: pool).purge_expired()
        rows = await connection.execute("SELECT count(*) AS kept FROM semantic_answer")
        assert (await rows.fetchone() or {})["kept"] == before - 1


async def test_purge_by_model_and_project(pool: Pool) -> None:
    cache = SemanticCache(lambda: pool)
    for model in ("m", "n"):
        for scope in ("s", "t"):
            await cache.keep(ask("Why?", scope=scope + model, model=model), at(0), b"x")
    async with pool.connection() as connection:
        assert await semantic.purge(connection, project="proj_none") == 0
        assert await semantic.purge(connection, models=["m"]) == 2
        assert await semantic.purge(connection, project=PROJECT) == 2


async def test_a_database_that_is_away_is_a_miss(database_url: str) -> None:
    async with connect(database_url) as pool:
        pass
    cache = SemanticCache(lambda: pool)
    looked = await cache.look(ask("Why?"), ON, embedding(0))
    assert looked == (None, at(0))
    assert not await cache.keep(ask("Why?"), at(0), b"x")
    trial = Shadow(lambda: pool, lambda: 0.0)
    assert not await trial.check(PROJECT, ON, 1, judged("same"))


def judged(outcome: Outcome | None) -> Any:
    async def judge() -> Outcome | None:
        return outcome

    return judge


@asynccontextmanager
async def checked(pool: Pool, chance: float = 0.0) -> AsyncIterator[Shadow]:
    trial = Shadow(lambda: pool, lambda: chance)
    yield trial
    await trial.drain()


async def test_checks_are_counted_and_a_wrong_hit_turns_the_cache_off(pool: Pool) -> None:
    clock = ManualClock()
    cache = SemanticCache(lambda: pool, clock=clock)
    await cache.keep(ask("Why?"), at(0), b"because")
    found = (await cache.look(ask("Why?"), ON, embedding(0))).found
    assert found is not None
    async with checked(pool) as trial:
        assert await trial.check(PROJECT, ON, found.id, judged("same"))
        assert await trial.check(PROJECT, ON, found.id, judged(None))
    assert await find(cache, ask("Why?")) == b"because"
    async with checked(pool) as trial:
        assert await trial.check(PROJECT, ON, found.id, judged("different"))
    await cache.keep(ask("Why?"), at(0), b"because")
    assert await find(cache, ask("Why?")) is None
    async with transaction(pool) as connection:
        status = await shadow.status(connection, PROJECT, ON)
        rows = await audit.select(connection, Filter(actions=["semantic_cache.turned_off"]), 10)
        await semantic.restart(connection, PROJECT)
    assert status.state == "turned_off"
    assert (status.trial.checked, status.trial.wrong, status.trial.hits) == (2, 1, 2)
    assert status.trial.off_reason is not None
    assert "1 of 2 checked hits were wrong" in status.trial.off_reason
    assert [(row.target, row.actor_key) for row in rows] == [(PROJECT, shadow.WATCHMAN)]
    assert await cache.look(ask("Why?"), ON, embedding(0)) == (None, None)
    clock.seconds += OFF_SECONDS
    assert await find(cache, ask("Why?")) == b"because"


async def test_concurrent_checks_are_all_counted_and_turn_off_once(pool: Pool) -> None:
    outcomes: list[Outcome] = ["same", "different"] * 8
    await asyncio.gather(*(shadow.count(pool, PROJECT, 0.01, 0, outcome) for outcome in outcomes))
    async with pool.connection() as connection:
        trial = await semantic.find_trial(connection, PROJECT)
        rows = await audit.select(connection, Filter(), 10)
    assert (trial.checked, trial.wrong) == (16, 8)
    assert len(rows) == 1


async def test_a_proven_cache_is_checked_by_chance_and_checks_are_bounded(pool: Pool) -> None:
    for _ in range(3):
        await shadow.count(pool, PROJECT, 0.9, 0, "same")
    few = msgspec.structs.replace(ON, bound=0.9, shadow=0.25)
    async with checked(pool, chance=0.3) as trial:
        assert not await trial.check(PROJECT, few, 0, judged("same"))
    async with checked(pool, chance=0.2) as trial:
        assert await trial.check(PROJECT, few, 0, judged("same"))
    held = asyncio.Event()

    async def wait() -> Outcome:
        await held.wait()
        return "same"

    trial = Shadow(lambda: pool, lambda: 0.0)
    started = [await trial.check(PROJECT, ON, 0, wait) for _ in range(shadow.AT_ONCE + 1)]
    assert started == [True] * shadow.AT_ONCE + [False]
    await trial.stop()
