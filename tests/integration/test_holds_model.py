"""The Lua of limits, budgets and holds against a model in Python, on a real server with a clock of
the test's own."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import ending, holds, keys, queue
from shared.ending import Bill
from shared.queue import Placed
from shared.resp import Link
from shared.script import Script
from shared.wire.account import Account, Budget, Limits
from shared.wire.hold import Draw, Hold, decode, encode
from shared.wire.task import Task

NOW = "test:now"
DAY = 86_400_000
YEAR = 366 * DAY
"""No request of these takes as long as it may."""
KEYS = ("a", "b")
OWNERS = {
    "a": Limits(requests_per_minute=4, tokens_per_minute=120, concurrent=3),
    "b": Limits(requests_per_minute=6),
    "p": Limits(requests_per_minute=8, tokens_per_minute=200, concurrent=4),
}
BUDGETS = {
    "a": (Budget("ba", "key", "a", "day", tokens=400, micros=900),),
    "b": (),
    "p": (Budget("bp", "project", "p", "total", tokens=700),),
}
REASONS = {1: "requests", 2: "tokens", 3: "concurrent"}


TOLD = """
local function told()
  local ms = tonumber(redis.call('GET', 'test:now'))
  return {string.format('%d', ms / 1000), string.format('%d', ms % 1000 * 1000)}
end
"""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every script reads the time from a key."""
    for module, name in (
        *((queue, name) for name in ("_enqueue", "_reserve", "_restore")),
        *((ending, name) for name in ("_finish", "_settle", "_abort")),
        *((holds, name) for name in ("_admit", "_sweep", "_open", "_fill")),
    ):
        script: Script = getattr(module, name)
        first, _, rest = script.text.replace(script.name, f"{script.name}_told").partition("\n")
        rest = rest.replace("redis.call('TIME')", "told()")
        monkeypatch.setattr(script, "text", f"{first}{TOLD}{rest}")
        monkeypatch.setattr(script, "name", f"{script.name}_told")


@dataclass
class Counter:
    spent: list[int] = field(default_factory=lambda: [0, 0])
    held: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass
class Running:
    task: Task
    second: int


@dataclass
class Model:
    """What must be so."""

    now: int
    log: dict[str, list[int]] = field(default_factory=lambda: {o: [] for o in OWNERS})
    tokens: dict[str, dict[int, int]] = field(default_factory=lambda: {o: {} for o in OWNERS})
    open: dict[str, set[str]] = field(default_factory=lambda: {o: set() for o in OWNERS})
    budgets: dict[int, Counter] = field(default_factory=dict)
    running: dict[str, Running] = field(default_factory=dict)

    def refusal(self, key: str, hold: Hold) -> tuple[str, ...] | None:
        for owner in (key, "p"):
            limits = OWNERS[owner]
            lately = [at for at in self.log[owner] if at > self.now - 60_000]
            tokens = sum(n for s, n in self.tokens[owner].items() if s >= self.now // 1000 - 60)
            if limits.requests_per_minute and len(lately) >= limits.requests_per_minute:
                return (owner, "requests")
            if limits.tokens_per_minute and tokens + hold.tokens > limits.tokens_per_minute:
                return (owner, "tokens")
            if limits.concurrent and len(self.open[owner]) >= limits.concurrent:
                return (owner, "concurrent")
        if any(draw.tag not in self.budgets for _, draw in drawn(key, hold.ts_ms)):
            return ("unknown",)
        for budget, draw in drawn(key, hold.ts_ms):
            counter = self.budgets[draw.tag]
            for kind, limit, need in (
                (0, budget.tokens, hold.tokens),
                (1, budget.micros, hold.micros),
            ):
                held = sum(each[kind] for each in counter.held.values())
                if limit is not None and need and counter.spent[kind] + held + need > limit:
                    return (budget.id, ("tokens", "micros")[kind])
        return None

    def begin(self, key: str, task: Task, hold: Hold) -> None:
        for owner in (key, "p"):
            self.log[owner].append(self.now)
            if OWNERS[owner].tokens_per_minute:
                seconds = self.tokens[owner]
                seconds[self.now // 1000] = seconds.get(self.now // 1000, 0) + hold.tokens
        self.running[task.id] = Running(task, self.now // 1000)
        self.hold(key, task, hold)

    def hold(self, key: str, task: Task, hold: Hold) -> None:
        for owner in (key, "p"):
            if OWNERS[owner].concurrent:
                self.open[owner].add(task.id)
        for _, draw in drawn(key, hold.ts_ms):
            if draw.tag in self.budgets:
                self.budgets[draw.tag].held[task.id] = (hold.tokens, hold.micros)

    def settle(self, key: str, id_: str, hold: Hold, tokens: int, micros: int) -> None:
        second = self.running[id_].second
        for owner in (key, "p"):
            self.open[owner].discard(id_)
            seconds = self.tokens[owner]
            if second in seconds and second >= self.now // 1000 - 60:
                seconds[second] += tokens - hold.tokens
        for _, draw in drawn(key, hold.ts_ms):
            if draw.tag in self.budgets:
                counter = self.budgets[draw.tag]
                counter.held.pop(id_, None)
                counter.spent[0] += tokens
                counter.spent[1] += micros
        del self.running[id_]


def account(key: str) -> Account:
    budgets = BUDGETS[key] + BUDGETS["p"]
    return Account(key, "p", "o", key, (), (), OWNERS[key], OWNERS["p"], budgets)


def drawn(key: str, ts_ms: int) -> list[tuple[Budget, Draw]]:
    return [(budget, holds.draw(budget, ts_ms)) for budget in account(key).budgets]


class World:
    """The server beside the model."""

    def __init__(self, link: Link, now: int) -> None:
        self.link = link
        self.model = Model(now)
        self.number = 0

    async def advance(self, ms: int) -> None:
        self.model.now += ms
        await self.link.call("SET", NOW, self.model.now)

    async def enqueue(self, key: str, tokens: int, micros: int) -> None:
        model = self.model
        self.number += 1
        hold = holds.of_account(account(key), model.now, model.now + YEAR, tokens, micros)
        assert hold is not None
        id_ = f"job-{self.number}"
        task = Task(
            id_, "chat", "m", "g", 1, True, b"", key, "batch", model.now + YEAR, hold=encode(hold)
        )
        wanted = model.refusal(key, hold)
        placed = await queue.enqueue(self.link, task, None, 1000, model.now)
        if wanted == ("unknown",):
            assert placed.state == "unfunded"
            assert placed.obstacle == [b"unknown"]
            await self.look_up(key, hold)
            wanted = model.refusal(key, hold)
            placed = await queue.enqueue(self.link, task, None, 1000, model.now)
        assert self.told(key, placed, hold) == wanted
        if wanted is None:
            model.begin(key, task, hold)
            self.stands(key, placed)

    def stands(self, key: str, placed: Placed) -> None:
        """What the caller of a request is told that was let in: with this request counted."""
        standings = holds.standings_with(account(key), placed.standing)
        for owner, standing in zip((key, "p"), standings, strict=True):
            limits, now = OWNERS[owner], self.model.now
            if limits.requests_per_minute:
                log = self.model.log[owner]
                least = sum(at > now - 60_000 for at in log)
                assert least <= standing.requests <= sum(at > now - 61_000 for at in log)
            if limits.tokens_per_minute:
                seconds = self.model.tokens[owner].items()
                assert standing.tokens == sum(n for s, n in seconds if s >= now // 1000 - 60)

    def told(self, key: str, placed: Placed, hold: Hold) -> tuple[str, ...] | None:
        if placed.obstacle is None:
            assert placed.state == "queued"
            return None
        who = account(key)
        standings = holds.standings(who, placed.standing)
        if placed.state == "limited":
            found = holds.obstacle(standings, placed.obstacle)
            assert found.frees_ms is None or found.frees_ms > 0
            assert (found.frees_ms is None) == (
                found.what == "tokens"
                and hold.tokens > (found.standing.limits.tokens_per_minute or 0)
            )
            return (key if found.standing.owner == "key" else "p", found.what)
        short = holds.shortage(who, hold.ts_ms, placed.obstacle)
        assert short is not None
        counter = self.model.budgets[holds.draw(short.budget, hold.ts_ms).tag]
        kind = ("tokens", "micros").index(short.what)
        assert short.spent == counter.spent[kind]
        assert short.held == sum(each[kind] for each in counter.held.values())
        return (short.budget.id, short.what)

    async def look_up(self, key: str, hold: Hold) -> None:
        """As if the ledger had what the model says, which is nothing of a new period."""
        at = hold.ts_ms
        for budget, draw in drawn(key, at):
            opened = await holds.open_counter(self.link, budget, at)
            assert opened.known == (draw.tag in self.model.budgets)
            if not opened.known:
                assert await holds.fill_counter(self.link, budget, at, opened, 0, 0)
                self.model.budgets[draw.tag] = Counter()

    async def finish(self, id_: str, share: float) -> None:
        task = self.model.running[id_].task
        hold = decode(task.hold)
        used = int(hold.tokens * share), int(hold.micros * share)
        await self.link.call("SET", keys.IN_PROGRESS + id_, "wk")
        bill = Bill(task.hold, *used)
        assert await ending.finish(self.link, "wk", keys.queue("m"), id_, None, bill)
        assert not await ending.finish(self.link, "wk", keys.queue("m"), id_, None, bill)
        self.model.settle(task.key, id_, hold, *used)

    async def abort(self, id_: str) -> None:
        task = self.model.running[id_].task
        assert await ending.abort(self.link, keys.queue("m"), id_) == 2
        self.model.settle(task.key, id_, decode(task.hold), 0, 0)

    async def vanish(self, id_: str) -> None:
        """The job is gone, and a sweep finds out."""
        task = self.model.running[id_].task
        await self.link.call("DEL", keys.JOB + id_)
        await self.link.call("ZREM", keys.queue("m"), id_)
        await self.link.call("ZADD", keys.HOLDS, self.model.now, id_)
        assert await holds.sweep(self.link) == 1
        self.model.settle(task.key, id_, decode(task.hold), 0, 0)

    async def again(self, id_: str) -> None:
        """Queued again while it still holds what it held."""
        task = self.model.running[id_].task
        await self.link.call("DEL", keys.JOB + id_)
        placed = await queue.enqueue(self.link, task, None, queue.NO_LIMIT, self.model.now, 2)
        assert placed.state == "queued"

    async def check(self) -> None:
        model, call = self.model, self.link.call
        assert await call("ZCARD", keys.HOLDS) == len(model.running)
        assert await call("EXISTS", *(keys.HOLD + id_ for id_ in model.running), "x") == len(
            model.running
        )
        for owner in OWNERS:
            name = keys.tally("project" if owner == "p" else "key", owner)
            kept = await call("GET", name)
            assert holds.running(kept) == len(model.open[owner])
            flat = await call("HGETALL", f"{name}:seconds")
            there = dict(zip(map(int, flat[::2]), map(int, flat[1::2]), strict=True))
            if kept is not None:
                _, _, _, second, oldest, _, tokens, whole = holds.NOW.unpack_from(kept)
                there[second] = tokens
                assert sum(there.values()) == whole
                assert oldest - 1 <= min(there)
            for second, tokens in model.tokens[owner].items():
                if tokens and second >= model.now // 1000 - 60:
                    assert there[second] == tokens
            assert all(tokens >= 0 for tokens in there.values())
            self.counters(holds.counters(kept), owner)

    def counters(self, found: dict[int, holds.Counted], owner: str) -> None:
        """None that goes on is missing; one that is over may be."""
        for budget in BUDGETS[owner]:
            present = holds.draw(budget, self.model.now).tag
            assert present in found or present not in self.model.budgets
        for tag, counted in found.items():
            counter = self.model.budgets[tag]
            held = [sum(each[kind] for each in counter.held.values()) for kind in (0, 1)]
            assert counted == (*counter.spent, *held)


STEP: st.SearchStrategy[tuple[Any, ...]] = st.one_of(
    st.tuples(st.just("enqueue"), st.sampled_from(KEYS), st.integers(0, 130), st.integers(0, 300)),
    st.tuples(st.just("finish"), st.integers(0), st.floats(0, 1)),
    st.tuples(st.sampled_from(("abort", "vanish", "again")), st.integers(0)),
    st.tuples(st.just("advance"), st.sampled_from((1, 999, 1000, 20_000, 59_999, 60_000, DAY))),
)


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(STEP, min_size=5, max_size=60))
def test_any_order_of_things(clock: None, valkey_url: str, steps: list[tuple[Any, ...]]) -> None:
    asyncio.run(walk(valkey_url, steps))


async def walk(url: str, steps: list[tuple[Any, ...]]) -> None:
    link = Link(url, "test")
    await link.start()
    try:
        await link.wait_open(5)
        await link.call("FLUSHALL")
        world = World(link, int(time.time() * 1000))
        await world.advance(0)
        for what, *values in steps:
            if what == "enqueue":
                await world.enqueue(*values)
            elif what == "advance":
                await world.advance(*values)
            elif world.model.running:
                ids = sorted(world.model.running)
                await getattr(world, what)(ids[values[0] % len(ids)], *values[1:])
            await world.check()
    finally:
        await link.stop()
