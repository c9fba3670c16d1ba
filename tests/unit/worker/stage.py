"""A device whose engines do what the test says, when it says so."""

from __future__ import annotations

from shared.wire.task import Class
from worker.effect import Admit, Effect, Evict, Hold, Load, Refuse, Sleep, Stop, Wake
from worker.occasion import (
    Arrived,
    Died,
    Ended,
    Loaded,
    LoadFailed,
    Occasion,
    Slept,
    Stopped,
    Tick,
    Woken,
)
from worker.residency import GIB, Device, Plan, Rules, device
from worker.scheduler import decide


def plan(size: float, load_seconds: float = 4.0, **more: object) -> Plan:
    """`size` in GiB; kept for ever unless told otherwise."""
    more.setdefault("keep_alive", -1.0)
    return Plan(size=int(size * GIB), load_seconds=load_seconds, **more)  # type: ignore[arg-type]


class Stage:
    def __init__(
        self,
        plans: dict[str, Plan],
        capacity: float,
        *,
        pinned: frozenset[str] = frozenset(),
        host: float = 0,
        rules: Rules | None = None,
    ) -> None:
        self.device: Device = device(
            plans, int(capacity * GIB), pinned=pinned, host=int(host * GIB), rules=rules
        )
        self.now = 0.0
        self.next_at: float | None = None
        self.seen: list[Effect] = []

    def feed(self, event: Occasion) -> list[Effect]:
        outcome = decide(self.device, event)
        self.device, self.next_at = outcome.after, outcome.next_at
        self.seen += outcome.effects
        return list(outcome.effects)

    def wait(self, seconds: float) -> list[Effect]:
        """Time passes; ticks come when they were asked for."""
        until = self.now + seconds
        effects: list[Effect] = []
        while self.next_at is not None and self.next_at <= until:
            self.now = self.next_at
            effects += self.feed(Tick(self.now))
        self.now = until
        return effects

    def arrive(self, model: str, service: Class = "interactive") -> list[Effect]:
        return self.feed(Arrived(self.now, model, service))

    def end(self, model: str, keep_alive: float | None = None) -> list[Effect]:
        return self.feed(Ended(self.now, model, 1, keep_alive))

    def die(self, model: str) -> list[Effect]:
        return self.feed(Died(self.now, model, "killed by signal 9"))

    def fail(self, why: str = "out of memory") -> list[Effect]:
        work = self.device.work
        assert work is not None
        return self.feed(LoadFailed(self.now, work.model, why))

    def finish(self) -> list[Effect]:
        """The start or stop under way succeeds."""
        work = self.device.work
        assert work is not None
        now, name = self.now, work.model
        slot = self.device.slots[name].plan
        event: Occasion
        match work.what:
            case "load":
                event = Loaded(now, name, slot.size, slot.load_seconds)
            case "wake":
                event = Woken(now, name, slot.wake_seconds)
            case "sleep":
                event = Slept(now, name, slot.asleep_size, slot.host_size)
            case "stop":
                event = Stopped(now, name)
        return self.feed(event)

    def load(self, model: str) -> None:
        """`model` is ready and has just served one request."""
        self.arrive(model)
        while self.device.slots[model].state != "ready":
            self.finish()
        self.end(model)

    def state(self, model: str) -> str:
        return self.device.slots[model].state

    def did(self, *kinds: type) -> list[str]:
        return [e.model for e in self.seen if isinstance(e, kinds)]


def brief(effects: list[Effect]) -> list[str]:
    """Effects without their reasons, such as `load a`; holds left out."""
    words = {Load: "load", Wake: "wake", Sleep: "sleep", Stop: "stop", Evict: "evict"}
    found = []
    for effect in effects:
        match effect:
            case Hold():
                continue
            case Admit():
                found.append(f"admit {effect.model} {effect.count}")
            case Refuse():
                found.append(f"refuse {effect.model} {effect.code}")
            case _:
                found.append(f"{words.get(type(effect), 'keep')} {effect.model}")
    return found


def three(capacity: float = 10, **more: object) -> Stage:
    """Any one of a, b, c fits, no two do."""
    return Stage({name: plan(6, **more) for name in "abc"}, capacity)
