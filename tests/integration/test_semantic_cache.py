"""The semantic cache in a real PostgreSQL with pgvector, and over a whole hub."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from math import cos, sin
from typing import Any

import msgspec
import pytest

from gateway.cache.responses import Responses
from gateway.dispatch import Dispatch
from gateway.semantic import shadow
from gateway.semantic.cache import LARGEST_ANSWER, OFF_SECONDS, SemanticCache
from gateway.semantic.embedding import Embedder, cosine
from gateway.semantic.judge import Outcome
from gateway.semantic.semantic import Hit, Miss, Semantic
from gateway.semantic.shadow import Shadow
from shared import settings
from shared.catalog import Catalog
from shared.db import Pool, connect, transaction
from shared.store import audit, semantic
from shared.store.audit import Filter
from shared.store.semantic import Question, Room
from shared.wire.account import Account, CacheSettings
from shared.wire.account import SemanticCache as Chosen
from tests.contract.client import Client
from tests.hub import Hub
from tests.unit.gateway.test_auth import ManualClock

PROJECT = "proj_default"
ON = Chosen(enabled=True)


def ask(text: str, scope: str = "s", project: str = PROJECT, model: str = "m") -> Question:
    digest = hashlib.sha256(text.encode()).digest()
    return Question(project, hashlib.sha256(scope.encode()).digest(), text, digest, model)


def at(angle: float) -> list[float]:
    """A unit vector; the cosine of two is that of the difference of their angles."""
    return [cos(angle), sin(angle), 0.0]


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


@asynccontextmanager
async def gateway_of(hub: Hub) -> AsyncIterator[tuple[Dispatch, Catalog, Responses]]:
    """The parts of a gateway beside that of the hub."""
    chosen = settings.load({"AIHUB_HOME": str(hub.home)}, hub.home)
    catalog = Catalog(chosen.models)
    async with connect(chosen.postgres) as pool:
        dispatch = Dispatch(chosen, catalog, pool=lambda: pool)
        responses = Responses(chosen, dispatch.name)
        await dispatch.start()
        await responses.start()
        try:
            yield dispatch, catalog, responses
        finally:
            await responses.stop()
            await dispatch.stop()


def account(**cache: Any) -> Account:
    chosen = CacheSettings(semantic=Chosen(enabled=True, **cache))
    return Account("key", PROJECT, "org_default", "test", ("inference",), cache=chosen)


async def test_questions_are_embedded_by_a_model_of_the_hub(hub: Hub) -> None:
    async with gateway_of(hub) as (dispatch, catalog, _):
        embedder = Embedder(dispatch, catalog)
        entry = embedder.model(None)
        assert entry is not None
        assert embedder.model("none") is None
        texts = (
            "How do I reset my password?",
            "Hello, how can I reset my password please?",
            "What is the capital of Peru?",
        )
        known, asked, other = [
            await embedder.embed(entry, text, account(), "interactive", within=20.0)
            for text in texts
        ]
        assert known is not None
        assert asked is not None
        assert other is not None
        assert cosine(known, asked) > ON.threshold > 0.5 > cosine(known, other)
        assert await embedder.embed(entry, "late", account(), "batch", within=0.0) is None


def body(text: str, **fields: Any) -> bytes:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    return msgspec.json.encode({"model": "m", "messages": messages, **fields})


async def test_a_route_looks_keeps_and_checks(hub: Hub, pool: Pool) -> None:
    async with gateway_of(hub) as (dispatch, catalog, responses):
        chat = catalog.find(hub.chat_model)
        cache = Semantic(lambda: pool, dispatch, catalog, responses)

        async def look(asked: bytes, whose: Account | None = None) -> Hit | Miss | None:
            return await cache.look(asked, chat, "fp_1", whose or account(), "interactive")

        off = msgspec.structs.replace(account(), cache=CacheSettings())
        assert await look(body("What is the capital of Peru?"), off) is None
        assert await look(body("Why?"), account(model="none")) is None
        miss = await look(body("What is the capital of Peru?"))
        assert isinstance(miss, Miss)
        await responses.purge(PROJECT)
        assert not await cache.keep(miss, b"purged meanwhile")
        await asyncio.sleep(0.002)
        miss = miss._replace(began_ms=await responses.now())
        await responses.mark_meant("another project")
        await responses.mark_meant(PROJECT, ["another model"])
        assert not await responses.purged(PROJECT, chat.name, miss.began_ms or 0)
        await responses.mark_meant(PROJECT, [chat.name])
        assert not await cache.keep(miss, b"this cache alone was emptied meanwhile")
        assert isinstance(await look(body("What is the capital of Peru?")), Miss)
        await asyncio.sleep(0.002)
        assert not await cache.keep(miss._replace(began_ms=None), b"It is Lima.")
        assert await cache.keep(miss._replace(began_ms=await responses.now()), b"It is Lima.")
        hit = await look(body("hi, can you tell me what the capital of Peru is?", stream=True))
        assert isinstance(hit, Hit)
        assert (hit.answer, hit.known) == (b"It is Lima.", "What is the capital of Peru?")
        assert isinstance(await look(body("What is the capital of Chile?")), Miss)
        assert isinstance(await look(body("What is the capital of Peru?", temperature=0)), Miss)

        async def the_same() -> str:
            return "The capital of Peru is Lima."

        async def another() -> str:
            return "It is Cusco."

        assert await cache.check(hit, account(), "It is Lima.", the_same)
        assert await cache.check(hit, account(), "It is Lima.", another)
        await cache.drain()
        assert isinstance(await look(body("What is the capital of Peru?")), Miss)
        async with pool.connection() as connection:
            status = await shadow.status(connection, PROJECT, account().cache.semantic)
        assert (status.state, status.trial.checked, status.trial.wrong) == ("turned_off", 2, 1)


def test_an_administrator_sees_empties_and_restarts_it(hub: Hub) -> None:
    def ok(method: str, path: str, body: bytes | None = None) -> Any:
        reply = client.send(method, f"//api/v1/admin/projects{path}", body)
        assert reply.status == 200, reply.body
        return reply.json

    client = Client(hub.base_url, hub.key)
    semantic_on = b'{"name": "Means", "cache": {"semantic": {"enabled": true, "bound": 0.05}}}'
    project = ok("POST", "", semantic_on)["id"]
    path = f"/{project}/semantic_cache"
    fresh = ok("GET", path)
    assert (fresh["state"], fresh["required"], fresh["upper_bound"]) == ("unproven", 59, 1.0)
    sockets = settings.load({"AIHUB_HOME": str(hub.home)}, hub.home).sockets
    asyncio.run(fill(f"postgresql://aihub@/aihub?host={sockets}", project))
    off = ok("GET", path)
    assert (off["state"], off["answers"], off["trial"]["wrong"]) == ("turned_off", 2, 1)
    assert "5 % is the limit" in off["trial"]["off_reason"]
    assert ok("POST", f"{path}/restart")["state"] == "unproven"
    assert ok("POST", f"{path}/restart")["state"] == "unproven"
    assert ok("DELETE", f"{path}?model=m")["deleted"]
    assert ok("GET", path)["answers"] == 1
    ok("DELETE", path)
    assert ok("GET", path)["answers"] == 0
    audit_path = f"//api/v1/admin/audit?project_ids[]={project}"
    log = client.send("GET", audit_path).json["data"]
    told = [row["type"] for row in log if row["type"].startswith("semantic_cache")]
    assert told == [
        *("semantic_cache.purged", "semantic_cache.purged"),
        *("semantic_cache.restarted", "semantic_cache.turned_off"),
    ]


async def fill(url: str, project: str) -> None:
    async with connect(url) as pool:
        cache = SemanticCache(lambda: pool)
        await cache.keep(ask("Why?", project=project), at(0), b"x")
        await cache.keep(ask("How?", project=project, model="n"), at(0), b"x")
        await shadow.count(pool, project, 0.05, 0, "different")
