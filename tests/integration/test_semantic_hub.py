"""The semantic cache over a whole hub, whose own model embeds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from gateway.cache.responses import Responses
from gateway.dispatch import Dispatch
from gateway.semantic import shadow
from gateway.semantic.cache import SemanticCache
from gateway.semantic.embedding import Embedder, cosine
from gateway.semantic.semantic import Hit, Miss, Semantic
from shared import settings
from shared.catalog import Catalog
from shared.db import Pool, connect
from shared.wire.account import Account, CacheSettings
from shared.wire.account import SemanticCache as Chosen
from tests.contract.client import Client
from tests.hub import Hub
from tests.integration.questions import ON, PROJECT, ask, at


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
