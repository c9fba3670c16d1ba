"""What a request costs Redis by what limits its caller: `python -m tests.bench.holds`.

Jobs are queued, claimed and finished by 32 at a time, without gateway, worker or engine. The time
in scripts is Redis's own (INFO commandstats), and the middle of the rounds counts.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from statistics import median
from typing import NamedTuple

from shared import ending, holds, ids, keys, queue
from shared.resp import Link
from shared.settings import Settings
from shared.wire.account import Account, Budget, Limits
from shared.wire.hold import encode as packed
from shared.wire.task import Origin, Task
from shared.wire.usage import UsageEvent, encode
from tests.bench.figures import table
from tests.server import running_valkey, temporary_home

KEY, PROJECT, WORKER, MODEL = "key_" + "a" * 32, "proj_" + "b" * 32, "wk-1", "m"
NEVER = Limits(10**9, 10**9, 10**6)
AT_ONCE = 32
SECONDS = 600
BODY = b'{"model":"m","messages":[{"role":"user","content":"' + b"?" * 200 + b'"}]}'


class Cost(NamedTuple):
    cpu_us: float
    scripts_us: float
    commands: float


def budgets() -> tuple[Budget, ...]:
    return tuple(
        Budget(f"budget_{owner}_{period}", owner, id_, period, tokens=10**15, micros=10**15)
        for owner, id_ in (("key", KEY), ("project", PROJECT))
        for period in ("month", "day")
    )


def accounts() -> dict[str, Account]:
    def account(limits: Limits, drawn: tuple[Budget, ...]) -> Account:
        return Account(KEY, PROJECT, "org", "n", (), (), limits, limits, drawn)

    return {
        "nothing": account(Limits(), ()),
        "three limits of key and project": account(NEVER, ()),
        "two budgets of key and project": account(Limits(), budgets()),
        "all of it": account(NEVER, budgets()),
    }


async def spent(link: Link) -> Cost:
    """Since Redis began to count, in all."""
    cpu = (await link.call("INFO", "cpu")).decode().splitlines()
    used = [line for line in cpu if line.startswith(("used_cpu_sys:", "used_cpu_user:"))]
    seconds = sum(float(line.split(":")[1]) for line in used)
    scripts, commands = 0.0, 0
    for line in (await link.call("INFO", "commandstats")).decode().splitlines():
        name, _, rest = line.partition(":")
        if name.startswith("cmdstat_") and rest:
            fields = dict(part.split("=") for part in rest.split(","))
            commands += int(fields["calls"])
            scripts += float(fields["usec"]) if name == "cmdstat_fcall" else 0.0
    return Cost(seconds * 1e6, scripts, commands)


def job(account: Account, now: int) -> Task:
    hold = holds.of_account(account, now, now + SECONDS * 1000, 500, 500_000)
    return Task(
        ids.new("job-"),
        "chat",
        MODEL,
        "gw-1",
        1,
        False,
        BODY,
        account.key,
        "interactive",
        now + SECONDS * 1000,
        origin=Origin(ids.new("req_"), account.project, "chat/completions"),
        hold=b"" if hold is None else packed(hold),
    )


def event(task: Task, now: int) -> bytes:
    assert task.origin is not None
    return encode(
        UsageEvent(
            ts_ms=now,
            request_id=task.origin.request,
            project=task.origin.project,
            key=task.key,
            model=MODEL,
            endpoint=task.origin.endpoint,
            service="interactive",
            status=200,
            total_ms=5,
            streamed=False,
        )
    )


async def serve(link: Link, account: Account, requests: int) -> None:
    for _ in range(requests // AT_ONCE):
        now = time.time_ns() // 10**6
        tasks = [job(account, now) for _ in range(AT_ONCE)]
        placed = await asyncio.gather(*(queue.enqueue(link, t, WORKER, 4096, now) for t in tasks))
        assert all(one.state == "queued" for one in placed)
        claimed = await queue.claim(link, WORKER, {keys.queue(MODEL): AT_ONCE})
        assert len(claimed) == AT_ONCE
        await asyncio.gather(*(finish(link, one.task, one.queue, now) for one in claimed))
    await link.call("DEL", keys.USAGE, keys.wake(WORKER))


async def finish(link: Link, task: Task, name: str, now: int) -> None:
    bill = ending.Bill(task.hold, 100, 1_000) if task.hold else None
    assert await ending.finish(link, WORKER, name, task.id, event(task, now), bill)


async def measure(url: str, requests: int, rounds: int) -> dict[str, Cost]:
    link = Link(url, "bench")
    await link.start()
    await link.wait_open(10)
    for budget in budgets():
        now = time.time_ns() // 10**6
        opened = await holds.open_counter(link, budget, now)
        assert await holds.fill_counter(link, budget, now, opened, 0, 0)
    seen: dict[str, list[Cost]] = {name: [] for name in accounts()}
    for turn in range(rounds + 1):
        asked = list(accounts().items())
        for name, account in asked if turn % 2 else asked[::-1]:
            before = await spent(link)
            await serve(link, account, requests)
            after = await spent(link)
            if turn:
                seen[name].append(
                    Cost(*((b - a) / requests for a, b in zip(before, after, strict=True)))
                )
    await link.stop()
    return {
        name: Cost(*(median(column) for column in zip(*costs, strict=True)))
        for name, costs in seen.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with temporary_home() as home:
        settings = Settings(home=str(home))
        with running_valkey(settings):
            found = asyncio.run(measure(settings.redis, options.requests, options.rounds))
    head = ["a caller under", "CPU µs", "of these in scripts", "commands"]
    print(
        table("What a request costs Redis", head, [[name, *cost] for name, cost in found.items()])
    )


if __name__ == "__main__":
    main()
