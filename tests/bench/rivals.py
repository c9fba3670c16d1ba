"""What others do on the same card, and what could be done by one who knew the future."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from tests.bench.card import Card, Engine, What
from tests.bench.traffic import Asked
from worker.residency import Plan, Rules


class Rival:
    """Admits and moves models one at a time; `target` is the model it makes room for."""

    def __init__(self) -> None:
        self.target: str | None = None

    def happened(self, card: Card, what: What, model: str, service: str) -> None:
        self.admit(card)
        if any(engine.state == "moving" for engine in card.engines.values()):
            return
        if self.target is None:
            self.target = self.next_target(card)
        if self.target is not None:
            self.make_room(card, self.target)

    def admit(self, card: Card) -> None:
        """A loaded model takes what waits for it."""
        for name, engine in card.engines.items():
            places = min(engine.count, engine.plan.places - engine.serving)
            if engine.state == "ready" and places > 0 and not self.closed(name, engine):
                card.admit(name, places)

    def closed(self, name: str, engine: Engine) -> bool:
        return False

    def next_target(self, card: Card) -> str | None:
        """The absent model whose request has waited longest."""
        waiting = [
            (oldest(engine), name)
            for name, engine in card.engines.items()
            if engine.state == "absent" and engine.count
        ]
        return min(waiting)[1] if waiting else None

    def make_room(self, card: Card, target: str) -> None:
        if card.engines[target].plan.size <= card.capacity - card.used:
            self.target = None
            card.load(target)
            return
        victim = self.victim(card)
        if victim is not None:
            card.stop(victim)

    def victim(self, card: Card) -> str | None:
        """The least recently used of those that serve nobody."""
        idle = [
            (engine.used, name)
            for name, engine in card.engines.items()
            if engine.state == "ready" and not engine.serving
        ]
        return min(idle)[1] if idle else None


class Fifo(Rival):
    """Loads in the order of requests, one request at a time: nobody overtakes. LRU by bytes."""

    def admit(self, card: Card) -> None:
        while True:
            heads = [(oldest(e), n) for n, e in card.engines.items() if e.count]
            if not heads:
                return
            engine = card.engines[min(heads)[1]]
            if engine.state != "ready" or engine.serving >= engine.plan.places:
                return
            if min(heads)[1] == self.target:
                self.target = None
            card.admit(min(heads)[1], 1)

    def next_target(self, card: Card) -> str | None:
        heads = [(oldest(e), n) for n, e in card.engines.items() if e.count]
        if not heads:
            return None
        name = min(heads)[1]
        return name if card.engines[name].state == "absent" else None


class FifoSwaps(Rival):
    """Loaded models serve at once; loads in the order of requests, LRU by bytes, models closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closing: str | None = None

    def closed(self, name: str, engine: Engine) -> bool:
        return name == self.closing

    def make_room(self, card: Card, target: str) -> None:
        self.closing = None
        super().make_room(card, target)
        if self.target is not None and all(e.state != "moving" for e in card.engines.values()):
            ready = [(e.used, n) for n, e in card.engines.items() if e.state == "ready"]
            self.closing = min(ready)[1] if ready else None


class LruByCount(FifoSwaps):
    """At most `models` loaded, whatever they take; bytes are not looked at."""

    def __init__(self, models: int) -> None:
        super().__init__()
        self.models = models

    def make_room(self, card: Card, target: str) -> None:
        self.closing = None
        loaded = [(e.used, n) for n, e in card.engines.items() if e.state == "ready"]
        if len(loaded) < self.models:
            self.target = None
            card.load(target)
            return
        self.closing = min(loaded)[1]
        if not card.engines[self.closing].serving:
            card.stop(self.closing)


class Hindsight(Rival):
    """Knows every arrival to come, on the same card in the same time.

    Loaded models serve at once; the longest waiting model is loaded next; of the models that serve
    nobody and have nobody waiting, the one whose next request is farthest away goes (Belady).
    A request that is due closes the model that is needed last.
    """

    def __init__(self, trace: list[Asked], rules: Rules) -> None:
        super().__init__()
        self.rules = rules
        self.coming = arrivals(trace)
        self.closing: str | None = None

    def closed(self, name: str, engine: Engine) -> bool:
        return name == self.closing

    def make_room(self, card: Card, target: str) -> None:
        self.closing = None
        super().make_room(card, target)
        due = oldest(card.engines[target]) + self.rules.due["interactive"]
        moving = any(e.state == "moving" for e in card.engines.values())
        if self.target is None or moving:
            return
        card.tick_at(due)
        if card.now >= due:
            ready = [n for n, e in card.engines.items() if e.state == "ready"]
            self.closing = max(ready, key=lambda n: self.next_use(n, card.now), default=None)

    def victim(self, card: Card) -> str | None:
        idle = [
            n
            for n, e in card.engines.items()
            if e.state == "ready" and not e.serving and (not e.count or n == self.closing)
        ]
        if not idle:
            return None
        last = max(idle, key=lambda n: self.next_use(n, card.now))
        target = oldest(card.engines[self.target or last])
        soon = self.next_use(last, card.now) < target + self.rules.due["interactive"]
        return None if soon and last != self.closing else last

    def next_use(self, name: str, now: float) -> float:
        times = self.coming.get(name, [])
        at = bisect_right(times, now)
        return times[at] if at < len(times) else float("inf")


def oldest(engine: Engine) -> float:
    return min((line[0].at for line in engine.waiting.values() if line), default=float("inf"))


def arrivals(trace: Iterable[Asked]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for asked in trace:
        found.setdefault(asked.model, []).append(asked.at)
    return found
