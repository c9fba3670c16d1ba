"""The gateway that computes an answer for all is killed with -9."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
import redis

from shared import cache, keys
from tests.chaos.test_gateways import gateways, streams_of
from tests.hub import Hub, running_hub
from tests.native import Upstream

TOKENS = 150
FOLLOWERS = 24
TEXT = "".join(f" t{index}" for index in range(TOKENS))


@pytest.fixture(scope="module")
def pair(upstream: Upstream) -> Iterator[Hub]:
    toml = f"""
[models.counting]
engine = "openai"
url = "unix:{upstream.path}"
parallel = 64
"""
    with running_hub(toml, AIHUB_CACHE_BYTES="1000000", AIHUB_GATEWAYS="2") as hub:
        yield hub


async def ask(hub: Hub) -> tuple[str, float] | None:
    """The answer and when it came; None: the connection broke."""
    body = {
        "model": "counting",
        "messages": [{"role": "user", "content": "?"}],
        "max_tokens": TOKENS,
        "temperature": 0,
    }
    async with httpx.AsyncClient(timeout=60, verify=False) as http:
        headers = {"Authorization": f"Bearer {hub.key}"}
        try:
            reply = await http.post(f"{hub.base_url}/chat/completions", json=body, headers=headers)
        except httpx.TransportError:
            return None
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]["message"]["content"], time.monotonic()


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not there():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_another_gateway_takes_over(
    pair: Hub, upstream: Upstream, note: Callable[[str], None]
) -> None:
    before = upstream.stats()["started"]
    await until(lambda: len(gateways(pair)) == 2)
    first = asyncio.create_task(ask(pair))
    await until(lambda: upstream.stats()["started"] == before + 1)
    (leader,) = (pid for pid, held in streams_of(pair).items() if held)
    others = [asyncio.create_task(ask(pair)) for _ in range(FOLLOWERS)]
    await until(lambda: sum(streams_of(pair).values()) == 1 + FOLLOWERS)
    lost = streams_of(pair)[leader]
    os.kill(leader, signal.SIGKILL)
    killed = time.monotonic()
    assert await first is None
    replies = [reply for one in others if (reply := await one) is not None]
    assert len(replies) == 1 + FOLLOWERS - lost > 0
    assert all(text == TEXT for text, _ in replies)
    assert upstream.stats()["started"] == before + 2
    took = min(at for _, at in replies) - killed
    note(
        f"{lost} of {1 + FOLLOWERS} identical requests ended with their gateway, the other"
        f" {len(replies)} had one more computation between them, after {took:.1f} s"
        f" ({TOKENS * 0.02:.1f} s of them for the answer)"
    )


async def test_nothing_is_left_and_the_books_agree(pair: Hub) -> None:
    with redis.Redis(unix_socket_path=str(pair.home / "run" / "valkey.sock")) as client:
        await until(lambda: not list(client.scan_iter("aihub:cache:flight:*")))
        names = list(client.scan_iter(keys.ANSWER + "*"))
        there = sum(client.strlen(name) for name in names) + len(names) * cache.OVERHEAD
        assert int(client.get(keys.CACHE[0])) == there
        assert len(names) == 1
