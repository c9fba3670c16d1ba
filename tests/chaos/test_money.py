"""One budget, 500 streams at a time over four gateways, clients that leave, processes that die.

Not a micro-unit more is spent than the budget has, what is billed is what was counted, and nothing
stays held.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
import redis
from psycopg.rows import dict_row

from shared import holds, keys
from shared.price import cost
from shared.settings import Settings
from shared.wire.account import Price
from tests.chaos.test_gateways import streams_of
from tests.contract.client import Client
from tests.hub import Hub, running_hub
from tests.native import Upstream

Note = Callable[[str], None]
GATEWAYS = 4
STREAMS = 500
TOKENS = 40
PRICE = Price(output=1_000_000)
"""One micro-unit a token, so that the budget holds so many tokens."""
MONEY = 2 * STREAMS * TOKENS
LEAVES = 0.3
"""The share of clients that leave in the middle."""
LONGEST = 120.0
SETTLED_WITHIN = 60.0
SEED = 20_261_123


@dataclass
class Seen:
    """One request as its client saw it."""

    id: str
    status: int
    tokens: int = 0
    whole: bool = False
    left: bool = False
    code: str = ""


class Caller:
    """One client: asks, reads, sometimes leaves, and asks again until the budget is spent."""

    def __init__(self, hub: Hub, key: str, chance: random.Random) -> None:
        self.seen: list[Seen] = []
        self.done = False
        self._port = hub.port
        self._chance = chance
        body = {
            "model": "counting",
            "messages": [{"role": "user", "content": "?"}],
            "max_tokens": TOKENS,
            "stream": True,
        }
        data = json.dumps(body).encode()
        self._request = (
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: hub\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b"
        ) % (key.encode(), len(data), data)

    async def run(self, until: float) -> None:
        while not self.done and time.monotonic() < until:
            try:
                async with asyncio.timeout(60):
                    await self._ask()
            except (OSError, asyncio.IncompleteReadError):
                # The gateway was killed; a new one takes its place.
                await asyncio.sleep(0.2)

    async def _ask(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(self._request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            lines = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            one = Seen(lines["x-request-id"], int(head.split()[1]))
            self.seen.append(one)
            if one.status == 200:
                await self._read(reader, one)
                return
            error = json.loads(await reader.read())["error"]
            one.code = error["code"]
            self.done = "does not begin anew" in error["message"]
        finally:
            writer.close()
        await asyncio.sleep(self._chance.uniform(0.1, 0.5))

    async def _read(self, reader: asyncio.StreamReader, one: Seen) -> None:
        leaves = self._chance.randrange(1, TOKENS) if self._chance.random() < LEAVES else None
        while line := await reader.readline():
            if line.startswith(b'data: {"') and b'"content":" t' in line:
                one.tokens += 1
                if one.tokens == leaves:
                    one.left = True
                    return
            elif line.startswith(b"data: [DONE]"):
                one.whole = True
                return


@pytest.fixture(scope="module")
def four(upstream: Upstream) -> Iterator[Hub]:
    toml = f"""
gateways = {GATEWAYS}
queue_limit = 4096
log_level = "warning"
request_timeout = 60
[models.counting]
engine = "openai"
url = "unix:{upstream.path}"
parallel = 128
"""
    with running_hub(toml) as hub:
        yield hub


def made(hub: Hub, path: str, **fields: Any) -> dict[str, Any]:
    client = Client(hub.base_url, hub.key)
    method = "PUT" if path.startswith("/prices") else "POST"
    reply = client.send(method, f"//api/v1/admin{path}", json.dumps(fields).encode())
    assert reply.status == 200, reply.body
    found: dict[str, Any] = reply.json
    return found


async def crowd(hub: Hub, key: str) -> list[Seen]:
    """All callers, while processes are killed under them."""
    chance = random.Random(SEED)
    until = time.monotonic() + LONGEST
    callers = [Caller(hub, key, random.Random(chance.random())) for _ in range(STREAMS)]
    async with asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(caller.run(until))
        group.create_task(asyncio.to_thread(kill, hub, chance))
    return [one for caller in callers for one in caller.seen]


def kill(hub: Hub, chance: random.Random) -> None:
    """Two gateways and two workers, one after the other."""
    for part in ("gateway", "worker", "gateway", "worker"):
        time.sleep(2.0)
        if part == "gateway":
            streams = streams_of(hub)
            victim = max(streams, key=lambda pid: streams[pid])
        else:
            victim = chance.choice(hub.pids(part))
        os.kill(victim, signal.SIGKILL)


def left(client: redis.Redis) -> list[str]:
    """What is held or under way."""
    names = [name.decode() for name in client.scan_iter(f"{keys.HOLD}*")]
    names += [keys.HOLDS] * bool(client.zcard(keys.HOLDS))
    names += [
        name.decode()
        for name in client.scan_iter(f"{keys.TALLY}*", _type="string")
        if holds.running(client.get(name))
    ]
    names += [name.decode() for name in client.scan_iter("arq:job:*")]
    return names + [keys.USAGE] * bool(client.xlen(keys.USAGE))


def ledger(hub: Hub, key: str) -> dict[str, dict[str, Any]]:
    """The lines of one key, by the id of the request."""
    url = f"postgresql://aihub@/aihub?host={Settings(home=str(hub.home)).sockets}"
    with psycopg.connect(url, row_factory=dict_row) as connection:
        rows = connection.execute("SELECT * FROM usage_event WHERE key = %s", (key,)).fetchall()
    assert len({row["request_id"] for row in rows}) == len(rows)
    return {row["request_id"]: row for row in rows}


def test_nothing_is_overspent_and_nothing_stays_held(four: Hub, note: Note) -> None:
    made(four, "/prices/counting", output=PRICE.output)
    key = made(four, "/keys", name="spender", limits={"concurrent": 2 * STREAMS})
    made(four, "/budgets", owner="key", owner_id=key["id"], period="total", micros=MONEY)
    began = time.monotonic()
    seen = asyncio.run(crowd(four, key["value"]))
    ended = time.monotonic()
    with redis.Redis(unix_socket_path=str(four.home / "run" / "valkey.sock")) as client:
        while held := left(client):
            assert time.monotonic() - ended < SETTLED_WITHIN, held
            time.sleep(0.2)
        settled = time.monotonic() - ended
        (counter,) = holds.counters(client.get(keys.tally("key", key["id"]))).values()
    lines = ledger(four, key["id"])
    billed = sum(line["micros"] for line in lines.values())
    whole = [one for one in seen if one.whole]
    broken = [one for one in seen if one.status == 200 and not one.whole]
    generated = sum(line["tokens_out"] for line in lines.values())
    # Of refusals a killed gateway takes those of a moment with it: they cost nothing.
    unknown = [one for one in seen if one.id not in lines and one.status == 200]
    assert not unknown, unknown
    short = [one for one in broken if lines[one.id]["tokens_out"] < one.tokens]
    refused = Counter(one.code for one in seen if one.code)
    note(
        f"{STREAMS} streams at a time over {GATEWAYS} gateways, {len(seen)} requests in"
        f" {ended - began:.0f} s: {len(whole)} whole, {sum(one.left for one in broken)} left,"
        f" {sum(not one.left for one in broken)} broken by kill -9, {dict(refused)}"
    )
    note(
        f"budget {MONEY}, spent {counter.micros}, billed {billed}, counted {generated};"
        f" overspent {max(0, billed - MONEY)}; held after {settled:.1f} s: {counter.micros_held}"
    )
    note(f"broken streams billed for fewer tokens than their client saw: {len(short)}")
    assert counter.micros == billed <= MONEY
    assert (counter.tokens_held, counter.micros_held) == (0, 0)
    assert counter.tokens == sum(line["tokens_in"] + line["tokens_out"] for line in lines.values())
    for line in lines.values():
        assert line["micros"] == cost(PRICE, line["tokens_in"], 0, line["tokens_out"], 0)
    for one in whole:
        assert one.tokens == lines[one.id]["tokens_out"] == TOKENS
        assert lines[one.id]["status"] == 200
    # Who is refused for good finds less left than one more stream may cost.
    assert whole
    assert MONEY - billed < TOKENS
    assert any(not one.left for one in broken)
    # Who loses both its gateway and its worker is billed what was known a second before.
    assert not [one for one in short if one.left]
