"""The response cache through two gateways of a whole hub, asked by the real openai client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import redis

from shared import cache, keys
from tests import native
from tests.hub import Hub, running_hub
from tests.native import Upstream

TOML = """
gateways = 2
cache_entry_bytes = 2000
[models.counting]
engine = "openai"
url = "unix:{path}"
parallel = 64
[models.slow]
engine = "openai"
url = "unix:{slow}"
parallel = 64
[models.cold]
engine = "openai"
url = "unix:{path}"
defaults = {{ temperature = 0.0 }}
[models.all-minilm-l6-v2]
engine = "llamacpp"
kind = "embedding"
file = "all-minilm-l6-v2.f16.gguf"
context = 512
"""
TOKENS = 20
TEXT = "".join(f" t{index}" for index in range(TOKENS))
MANY = 50


@pytest.fixture(scope="module")
def upstream(programs: Path) -> Iterator[Upstream]:
    with native.upstream(programs, programs / "s", "--pace-ms", "2") as running:
        yield running


@pytest.fixture(scope="module")
def slow(programs: Path) -> Iterator[Upstream]:
    with native.upstream(programs, programs / "slow", "--pace-ms", "40") as running:
        yield running


@pytest.fixture(scope="module")
def pair(upstream: Upstream, slow: Upstream) -> Iterator[Hub]:
    with running_hub(
        TOML.format(path=upstream.path, slow=slow.path), AIHUB_CACHE_BYTES="200000"
    ) as hub:
        yield hub


@pytest.fixture
async def client(pair: Hub) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=pair.base_url, api_key=pair.key, max_retries=0, timeout=60
    ) as opened:
        yield opened


def body(about: str, **fields: Any) -> dict[str, Any]:
    asked = {"messages": [{"role": "user", "content": about}], "max_tokens": TOKENS}
    return {"model": "counting", "temperature": 0, **asked, **fields}


async def send(
    client: openai.AsyncOpenAI, about: str, header: str | None = None, **fields: Any
) -> tuple[str | None, Any]:
    """How the cache says it took part, and the completion."""
    headers = {} if header is None else dict([header.split(": ")])
    raw = await client.chat.completions.with_raw_response.create(
        **body(about, **fields), extra_headers=headers
    )
    return raw.headers.get("x-aihub-cache"), raw.parse()


async def stream(client: openai.AsyncOpenAI, about: str, **fields: Any) -> tuple[str, list[Any]]:
    """How the cache says it took part, and the chunks."""
    raw = await client.chat.completions.with_raw_response.create(
        **body(about, **fields), stream=True
    )
    return raw.headers["x-aihub-cache"], [chunk async for chunk in raw.parse()]


def said(chunks: list[Any]) -> str:
    return "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)


async def test_the_second_time_nothing_is_computed(
    client: openai.AsyncOpenAI, upstream: Upstream
) -> None:
    how, first = await send(client, "twice")
    before = upstream.stats()["started"]
    raw = await client.chat.completions.with_raw_response.create(**body("twice", user="other"))
    second = raw.parse()
    assert (how, raw.headers["x-aihub-cache"]) == ("miss", "hit")
    assert int(raw.headers["age"]) < 30
    assert second.choices == first.choices
    assert second.choices[0].message.content == TEXT
    assert second.usage == first.usage
    assert second.id != first.id
    assert second.created == first.created
    assert upstream.stats()["started"] == before


async def test_a_stream_is_replayed_as_a_stream(client: openai.AsyncOpenAI) -> None:
    how, live = await stream(client, "streamed", stream_options={"include_usage": True})
    again, replayed = await stream(client, "streamed", stream_options={"include_usage": True})
    bare, short = await stream(client, "streamed")
    assert (how, again, bare) == ("miss", "hit", "hit")
    assert said(live) == said(replayed) == said(short) == TEXT
    assert [c.choices for c in replayed] == [c.choices for c in live]
    assert replayed[-1].usage == live[-1].usage is not None
    assert len(short) == len(replayed) - 1
    assert all(chunk.usage is None for chunk in short)


async def test_a_stream_answers_who_wants_one_piece_and_the_reverse(
    client: openai.AsyncOpenAI,
) -> None:
    _, live = await stream(client, "one way", n=2, stream_options={"include_usage": True})
    how, whole = await send(client, "one way", n=2)
    assert how == "hit"
    assert [choice.message.content for choice in whole.choices] == [TEXT, TEXT]
    assert {choice.finish_reason for choice in whole.choices} == {"length"}
    assert whole.usage == live[-1].usage
    how, whole = await send(client, "other way")
    again, chunks = await stream(client, "other way", stream_options={"include_usage": True})
    assert (how, again) == ("miss", "hit")
    assert said(chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage == whole.usage


async def test_text_completions(client: openai.AsyncOpenAI) -> None:
    asked: Any = {"model": "counting", "prompt": "once", "max_tokens": TOKENS, "temperature": 0}
    first = await client.completions.create(**asked)
    raw = await client.completions.with_raw_response.create(**{**asked, "prompt": ["once"]})
    assert raw.headers["x-aihub-cache"] == "hit"
    assert raw.parse().choices == first.choices
    chunks = [chunk async for chunk in await client.completions.create(**asked, stream=True)]
    assert "".join(chunk.choices[0].text for chunk in chunks) == first.choices[0].text == TEXT


async def test_embeddings_are_kept_always_and_told_in_either_encoding(
    client: openai.AsyncOpenAI,
) -> None:
    asked: Any = {"model": "all-minilm-l6-v2", "input": "a cat"}
    raw = await client.embeddings.with_raw_response.create(**asked, encoding_format="float")
    again = await client.embeddings.with_raw_response.create(**{**asked, "input": ["a cat"]})
    assert (raw.headers["x-aihub-cache"], again.headers["x-aihub-cache"]) == ("miss", "hit")
    floats, coded = raw.parse().data[0].embedding, again.parse().data[0].embedding
    assert coded == pytest.approx(floats)


@pytest.mark.parametrize(
    ("header", "fields", "told"),
    [
        (None, {"temperature": 1}, (None, None)),
        (None, {"temperature": 1, "seed": 4}, (None, None)),
        (None, {"model": "cold", "temperature": None}, ("miss", "hit")),
        ("Cache-Control: max-age=60", {"temperature": 1}, ("miss", "hit")),
        ("x-aihub-cache: use", {"temperature": 1}, ("miss", "hit")),
        ("Cache-Control: max-age=0", {}, ("miss", "miss")),
        ("Cache-Control: no-cache", {}, ("miss", "miss")),
        ("Cache-Control: no-store", {}, ("off", "off")),
        ("x-aihub-cache: off", {}, ("off", "off")),
    ],
)
async def test_what_a_caller_says(
    client: openai.AsyncOpenAI, header: str | None, fields: Any, told: tuple[str | None, ...]
) -> None:
    fields = {**fields}
    about = f"says {header} {fields}"
    if fields.get("temperature", 0) is None:
        fields["temperature"] = openai.omit
    assert ((await send(client, about, header, **fields))[0]) == told[0]
    assert ((await send(client, about, header, **fields))[0]) == told[1]
    kept = told[0] == "miss" or told[1] == "hit"
    if fields.get("temperature") is None:
        assert (await send(client, about, **fields))[0] == ("hit" if kept else "miss")


async def test_a_wrong_word_is_refused(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="use, refresh, off") as refused:
        await send(client, "wrong", "x-aihub-cache: maybe")
    assert refused.value.param == "x-aihub-cache"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_an_answer_that_is_too_large_is_not_kept(
    client: openai.AsyncOpenAI, *, streamed: bool
) -> None:
    about = f"large {streamed}"
    for _ in range(2):
        if streamed:
            how, chunks = await stream(client, about, max_tokens=600)
            assert len(said(chunks)) > 2_000
        else:
            how, whole = await send(client, about, max_tokens=600)
            assert whole.usage.completion_tokens == 600
        assert how == "miss"


async def test_an_error_is_not_kept(client: openai.AsyncOpenAI) -> None:
    for _ in range(2):
        with pytest.raises(openai.BadRequestError) as refused:
            await client.embeddings.create(model="all-minilm-l6-v2", input="word " * 2_000)
        assert refused.value.response.headers["x-aihub-cache"] == "miss"


async def test_identical_requests_are_computed_once(pair: Hub, slow: Upstream) -> None:
    """Each has a connection of its own, so that both gateways get some."""
    before = slow.stats()["started"]
    asked = [
        body("all at once", model="slow", max_tokens=80, stream=number % 2 == 0)
        for number in range(MANY)
    ]
    replies = await asyncio.gather(*(alone(pair, one) for one in asked))
    assert slow.stats()["started"] == before + 1
    told = [reply.headers["x-aihub-cache"] for reply in replies]
    assert told.count("miss") == 1
    assert {"joined"} <= set(told) <= {"miss", "joined", "hit"}
    for one, reply in zip(asked, replies, strict=True):
        assert reply.status_code == 200
        assert content(reply, streamed=one["stream"]).endswith(" t79")
    took = await parts(pair)
    assert len(took) == 2
    assert all(took.values())


async def parts(pair: Hub) -> dict[str, float]:
    """In how many requests the cache of each of the two gateways had a part."""
    found: dict[str, float] = {}
    async with asyncio.timeout(20):
        while len(found) < 2:
            async with httpx.AsyncClient(verify=False) as http:
                key = {"Authorization": f"Bearer {pair.key}"}
                text = (await http.get(f"{pair.url}/metrics", headers=key)).text
            name = text.partition('aihub_gateway_info{process="')[2].partition('"')[0]
            lines = [line for line in text.splitlines() if line.startswith("aihub_cache_requests")]
            found[name] = sum(float(line.split()[-1]) for line in lines)
    return found


def content(reply: httpx.Response, *, streamed: bool) -> str:
    if not streamed:
        return str(reply.json()["choices"][0]["message"]["content"])
    events = [event for event in reply.text.split("\n\n") if event.startswith("data: {")]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    return "".join(c["delta"].get("content", "") for chunk in chunks for c in chunk["choices"])


async def alone(pair: Hub, asked: Any) -> httpx.Response:
    async with httpx.AsyncClient(timeout=60, verify=False) as http:
        key = {"Authorization": f"Bearer {pair.key}"}
        return await http.post(f"{pair.base_url}/chat/completions", json=asked, headers=key)


async def test_who_leaves_harms_nobody(pair: Hub, slow: Upstream) -> None:
    """One who waits leaves, then the one who computes; the others have their answer."""
    asked = body("leaving", model="slow", max_tokens=80)
    before = slow.stats()["started"]
    first = asyncio.create_task(alone(pair, asked))
    while slow.stats()["started"] == before:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    others = [asyncio.create_task(alone(pair, asked)) for _ in range(6)]
    for one in (others[0], first):
        one.cancel()
        await asyncio.gather(one, return_exceptions=True)
    replies = await asyncio.gather(*others[1:])
    assert [reply.status_code for reply in replies] == [200] * 5
    assert slow.stats()["started"] == before + 2
    told = [reply.headers["x-aihub-cache"] for reply in replies]
    assert told.count("miss") == 1


async def test_the_bytes_stay_within_the_bound(pair: Hub, client: openai.AsyncOpenAI) -> None:
    asked = [
        send(client, f"bound {number}", max_tokens=200 if number % 5 == 0 else 1)
        for number in range(200)
    ]
    for at in range(0, len(asked), 20):
        await asyncio.gather(*asked[at : at + 20])
    with redis.Redis(unix_socket_path=str(pair.home / "run" / "valkey.sock")) as server:
        names = list(server.scan_iter(keys.ANSWER + "*"))
        there = sum(server.strlen(name) for name in names) + len(names) * cache.OVERHEAD
        assert int(server.get(keys.CACHE[0])) == there <= 200_000
        assert len(names) > 100
