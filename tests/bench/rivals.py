"""What others do on the same card, and what could be done by one who knew the future."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
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
    """Knows every arrival to come, on the same card, in the same time, under the same bound.

    Loaded models serve at once; the longest waiting model is loaded next. To make room those go
    whose next request is farthest away (Belady; sets are thinned to what is needed). While one of
    them would be asked for again before the waiter is due, the waiter waits; when it is due, the
    models that are needed last are closed even if they are in use.
    """

    def __init__(self, trace: list[Asked], rules: Rules) -> None:
        super().__init__()
        self.due = rules.due["interactive"]
        self.coming = arrivals(trace)
        self.closing: list[str] = []

    def closed(self, name: str, engine: Engine) -> bool:
        return name in self.closing

    def make_room(self, card: Card, target: str) -> None:
        lack = card.engines[target].plan.size - (card.capacity - card.used)
        if lack <= 0:
            self.target, self.closing = None, []
            card.load(target)
            return
        due = oldest(card.engines[target]) + self.due
        if card.now >= due and not self.closing:
            self.closing = self.farthest(card, lack, idle=False)
        victims = self.closing or self.farthest(card, lack, idle=True)
        if not self.closing and any(self.next_use(n, card.now) < due for n in victims):
            victims = []
        for name in victims:
            engine = card.engines[name]
            if engine.state == "ready" and not engine.serving:
                card.stop(name)
                return
        if card.now < due:
            card.tick_at(due)

    def farthest(self, card: Card, lack: int, *, idle: bool) -> list[str]:
        ready = [n for n, e in card.engines.items() if e.state == "ready"]
        if idle:
            ready = [n for n in ready if not card.engines[n].serving and not card.engines[n].count]
        ready.sort(key=lambda name: -self.next_use(name, card.now))
        return thinned({name: card.engines[name].bytes for name in ready}, lack)

    def next_use(self, name: str, now: float) -> float:
        times = self.coming.get(name, [])
        at = bisect_right(times, now)
        return times[at] if at < len(times) else float("inf")


def thinned(ranked: dict[str, int], lack: int) -> list[str]:
    """The first of them that free `lack` bytes, without the superfluous; empty: they cannot."""
    taken: list[str] = []
    for name in ranked:
        if sum(ranked[n] for n in taken) < lack:
            taken.append(name)
    if sum(ranked[n] for n in taken) < lack:
        return []
    for name in reversed(list(taken)):
        if sum(ranked[n] for n in taken) - ranked[name] >= lack:
            taken.remove(name)
    return taken


def belady(trace: list[Asked], plans: dict[str, Plan], capacity: int) -> tuple[int, int]:
    """Loads and bytes loaded when the order of requests is kept and nothing takes time.

    On a miss those go whose next request is farthest away. For models of one size this is the
    optimum for that order; for several sizes it is the usual heuristic, and the true optimum lies
    at or below it.
    """
    coming = {name: deque(times) for name, times in arrivals(trace).items()}
    resident: dict[str, int] = {}
    loads = size = 0
    for asked in trace:
        coming[asked.model].popleft()
        if asked.model in resident:
            continue
        lack = plans[asked.model].size - (capacity - sum(resident.values()))
        ranked = sorted(resident, key=lambda n: -(coming[n][0] if coming[n] else float("inf")))
        for name in thinned({n: resident[n] for n in ranked}, lack):
            del resident[name]
        resident[asked.model] = plans[asked.model].size
        loads, size = loads + 1, size + plans[asked.model].size
    return loads, size


def oldest(engine: Engine) -> float:
    return min((line[0].at for line in engine.waiting.values() if line), default=float("inf"))


def arrivals(trace: Iterable[Asked]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for asked in trace:
        found.setdefault(asked.model, []).append(asked.at)
    return found
