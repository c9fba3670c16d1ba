"""The hub's scheduler on the simulated card, watched by checks that know nothing of its rules."""

from __future__ import annotations

from tests.bench.card import Card, What
from worker.effect import Admit, Evict, Load, Refuse, Sleep, Stop, Wake
from worker.occasion import (
    Arrived,
    Ended,
    Loaded,
    Occasion,
    Slept,
    Stopped,
    Tick,
    Waiting,
    Woken,
)
from worker.residency import CLASSES, Device
from worker.scheduler import Outcome, decide


class Ours:
    def __init__(self, device: Device) -> None:
        self.device = device
        self.evictions = 0
        self.turns = 0
        """Evictions of a model that had waiters who came too late to be counted on it."""
        self.decisions = 0
        self._counted: dict[str, int] = {}

    def happened(self, card: Card, what: What, model: str, service: str) -> None:
        self.feed(card, self.event(card, what, model, service))

    def event(self, card: Card, what: What, model: str, service: str) -> Occasion:
        now = card.now
        if what == "tick":
            return Tick(now)
        plan = card.engines[model].plan
        match what:
            case "arrived":
                return Arrived(now, model, next(c for c in CLASSES if c == service))
            case "ended":
                return Ended(now, model)
            case "loaded":
                return Loaded(now, model, plan.size, plan.load_seconds)
            case "woken":
                return Woken(now, model, plan.wake_seconds)
            case "slept":
                return Slept(now, model, plan.asleep_size, plan.host_size)
            case _:
                return Stopped(now, model)

    def feed(self, card: Card, event: Occasion) -> None:
        outcome = self.decide(event)
        self.device = outcome.after
        self.check_evictions(card, outcome)
        for effect in outcome.effects:
            match effect:
                case Load(model=name):
                    card.load(name)
                case Wake(model=name):
                    card.wake(name)
                case Sleep(model=name) | Stop(model=name):
                    self.check_leaving(card, name)
                    card.sleep(name) if isinstance(effect, Sleep) else card.stop(name)
                case Refuse(model=name):
                    card.refuse(name)
                case Admit(model=name, count=many):
                    card.admit(name, many)
                    self._counted[name] = max(0, self._counted.get(name, 0) - many)
        for effect in outcome.effects:
            if isinstance(effect, Admit):
                self.count_again(card, effect.model)
        card.tick_at(self.last.next_at)

    def decide(self, event: Occasion) -> Outcome:
        self.decisions += 1
        self.last = decide(self.device, event)
        return self.last

    def count_again(self, card: Card, name: str) -> None:
        """The queue's own count, after some were taken from it."""
        for service in CLASSES:
            line = card.engines[name].waiting[service]
            if line and service in self.device.slots[name].waiting:
                self.feed(card, Waiting(card.now, name, service, len(line), line[0].at))

    def check_evictions(self, card: Card, outcome: Outcome) -> None:
        """Without any one of the victims, what is ordered would not fit."""
        evicted = [e for e in outcome.effects if isinstance(e, Evict)]
        self.evictions += len(evicted)
        for effect in evicted:
            engine = card.engines[effect.model]
            waiting = [len(engine.waiting[c]) for c in CLASSES]
            self._counted[effect.model] = sum(waiting)
            kept = outcome.after.slots[effect.model].state != "draining"
            if effect.cause != "room" or effect.room is None or kept:
                continue
            target = outcome.after.slots[effect.target]
            rank = max((i for i, c in enumerate(CLASSES) if c in target.waiting), default=2)
            first = min((i for i, c in enumerate(CLASSES) if c in target.waiting), default=2)
            self._counted[effect.model] = sum(waiting[: first + 1])
            self.turns += sum(waiting[rank + 1 :]) > 0
            if not target.count:
                card.violations.append(f"{effect.model} evicted for {effect.target}: nobody waits")
            leaving = {n: s for n, s in outcome.after.slots.items() if s.state == "draining"}
            back = {
                name: card.engines[name].bytes
                - (card.engines[name].plan.asleep_size if slot.leaving == "sleep" else 0)
                for name, slot in leaving.items()
            }
            free = card.capacity - card.used + sum(back.values())
            wants = {swap.model for swap in outcome.after.swaps}
            wants |= {e.model for e in outcome.effects if isinstance(e, Load | Wake)}
            lack = sum(card.engines[n].plan.size - card.engines[n].bytes for n in wants)
            if free - back[effect.model] >= lack:
                card.violations.append(f"{card.now:.1f}: needless eviction of {effect.model}")
            if free < lack:
                card.violations.append(f"{card.now:.1f}: {effect.model} evicted in vain")

    def check_leaving(self, card: Card, name: str) -> None:
        if self._counted.get(name, 0):
            card.violations.append(f"{card.now:.1f}: {name} leaves, awaited by counted waiters")
