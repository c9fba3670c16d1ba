"""A simulated card: what engines take and how long they take, and nobody's word for it.

The card keeps its own account of bytes and requests and writes down what a policy does wrong.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Literal, Protocol

from tests.bench.figures import percentile
from tests.bench.traffic import Asked
from worker.residency import CLASSES, Plan

STOP_SECONDS = 0.8
SLEEP_SECONDS = 0.7
What = Literal["arrived", "ended", "loaded", "woken", "slept", "stopped", "tick"]


class Policy(Protocol):
    def happened(self, card: Card, what: What, model: str, service: str) -> None: ...


class Engine:
    """What the card knows of one model."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.state: Literal["absent", "moving", "ready", "asleep"] = "absent"
        self.bytes = 0
        self.host = 0
        self.serving = 0
        self.used = 0.0
        self.waiting: dict[str, deque[Asked]] = {name: deque() for name in CLASSES}

    @property
    def count(self) -> int:
        return sum(len(line) for line in self.waiting.values())


class Card:
    def __init__(self, plans: dict[str, Plan], capacity: int, host: int = 0) -> None:
        self.capacity = capacity
        self.host = host
        self.engines = {name: Engine(plan) for name, plan in plans.items()}
        self.now = 0.0
        self.loads = self.wakes = self.bytes_loaded = self.refused = 0
        self.waits: list[float] = []
        self.violations: list[str] = []
        self._order = count()
        self._todo: list[tuple[float, int, Callable[[], tuple[What, str, str]]]] = []
        self._tick = 0

    def run(self, trace: list[Asked], policy: Policy) -> None:
        for asked in trace:
            self._at(asked.at, lambda asked=asked: self._arrive(asked))  # type: ignore[misc]
        while self._todo:
            self.now, _, act = heapq.heappop(self._todo)
            what, model, service = act()
            if what != "tick" or model == str(self._tick):
                policy.happened(self, what, model, service)
        left = sum(engine.count for engine in self.engines.values())
        if left:
            self.violations.append(f"{left} requests were never answered")

    def load(self, name: str) -> None:
        engine = self.engines[name]
        self._check(engine.state == "absent", f"{name} loaded while {engine.state}")
        self.loads += 1
        self.bytes_loaded += engine.plan.size
        self._take(engine, engine.plan.size)
        self._move(engine, engine.plan.load_seconds, "loaded", name)

    def wake(self, name: str) -> None:
        engine = self.engines[name]
        self._check(engine.state == "asleep", f"{name} woken while {engine.state}")
        self.wakes += 1
        engine.host = 0
        self._take(engine, engine.plan.size)
        self._move(engine, engine.plan.wake_seconds, "woken", name)

    def sleep(self, name: str) -> None:
        engine = self.engines[name]
        self._check(engine.state == "ready", f"{name} put to sleep while {engine.state}")
        self._check(engine.serving == 0, f"{name} put to sleep while it serves")
        engine.host = engine.plan.host_size
        held = sum(each.host for each in self.engines.values())
        self._check(held <= self.host, f"sleepers take {held} host bytes")
        self._move(engine, SLEEP_SECONDS, "slept", name)

    def stop(self, name: str) -> None:
        engine = self.engines[name]
        self._check(engine.state in ("ready", "asleep"), f"{name} stopped while {engine.state}")
        self._check(engine.serving == 0, f"{name} stopped while it serves")
        self._move(engine, STOP_SECONDS, "stopped", name)

    def admit(self, name: str, many: int) -> None:
        engine = self.engines[name]
        self._check(engine.state == "ready", f"{name} admits while {engine.state}")
        for _ in range(many):
            asked = next(line for line in engine.waiting.values() if line).popleft()
            self.waits.append(self.now - asked.at)
            engine.serving += 1
            self._at(self.now + asked.seconds, lambda: self._end(name))
        self._check(engine.serving <= engine.plan.places, f"{name} serves {engine.serving}")

    def refuse(self, name: str) -> None:
        for line in self.engines[name].waiting.values():
            self.refused += len(line)
            line.clear()

    def tick_at(self, time: float | None) -> None:
        """Only the last one asked for comes."""
        self._tick += 1
        number = str(self._tick)
        if time is not None and any(engine.count for engine in self.engines.values()):
            self._at(time, lambda: ("tick", number, ""))

    @property
    def used(self) -> int:
        return sum(engine.bytes for engine in self.engines.values())

    def figures(self) -> dict[str, float]:
        waits = sorted(self.waits)
        return {
            "loads": self.loads,
            "wakes": self.wakes,
            "GB loaded": self.bytes_loaded / 1e9,
            "p50": percentile(waits, 50),
            "p95": percentile(waits, 95),
            "max": waits[-1],
            "mean": sum(waits) / len(waits),
        }

    def _arrive(self, asked: Asked) -> tuple[What, str, str]:
        self.engines[asked.model].waiting[asked.service].append(asked)
        return "arrived", asked.model, asked.service

    def _end(self, name: str) -> tuple[What, str, str]:
        self.engines[name].serving -= 1
        self.engines[name].used = self.now
        return "ended", name, ""

    def _take(self, engine: Engine, size: int) -> None:
        engine.bytes = size
        if self.used > self.capacity:
            self.violations.append(f"over-commit: {self.used} of {self.capacity}")

    def _move(self, engine: Engine, seconds: float, what: What, name: str) -> None:
        others = [n for n, e in self.engines.items() if e.state == "moving"]
        self._check(not others, f"{name} moves while {others} do")
        engine.state = "moving"
        self._at(self.now + seconds, lambda: self._moved(engine, what, name))

    def _moved(self, engine: Engine, what: What, name: str) -> tuple[What, str, str]:
        engine.used = self.now
        match what:
            case "slept":
                engine.state, engine.bytes = "asleep", engine.plan.asleep_size
            case "stopped":
                engine.state, engine.bytes, engine.host = "absent", 0, 0
            case _:
                engine.state = "ready"
        return what, name, ""

    def _check(self, right: bool, text: str) -> None:
        if not right:
            self.violations.append(f"{self.now:.1f}: {text}")

    def _at(self, time: float, act: Callable[[], tuple[What, str, str]]) -> None:
        heapq.heappush(self._todo, (time, next(self._order), act))
