"""What must hold whatever happens: a device driven at random, watched by accounts of its own."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.wire.task import Class
from tests.unit.worker.stage import plan
from worker.decision import again, encode, record
from worker.effect import Admit, Effect, Evict, Forget, Keep, Load, Refuse, Sleep, Stop, Wake
from worker.occasion import (
    Arrived,
    DeviceBytes,
    Died,
    Ended,
    LoadAsked,
    Loaded,
    LoadFailed,
    Occasion,
    Pin,
    Planned,
    Restored,
    Slept,
    Stopped,
    Tick,
    UnloadAsked,
    Waiting,
    Withdrawn,
    Woken,
)
from worker.residency import CLASSES, GIB, Device, Plan, Rules, device, pause
from worker.scheduler import decide

SLEEPER = {"can_sleep": True, "asleep_size": GIB // 2, "wake_seconds": 0.5}
PLANS: dict[str, Plan] = {
    "a": plan(6, 4, places=2, keep_alive=40),
    "b": plan(5, 9),
    "c": plan(2, 1, keep_alive=10),
    "d": plan(3, 2, places=3, host_size=2 * GIB, **SLEEPER),
    "e": plan(7, 6, host_size=5 * GIB, keep_alive=60, **SLEEPER),
    "large": plan(20, 30),
}
RULES = Rules(limit={"interactive": 120.0, "standard": 120.0, "batch": 400.0})
NAMES = st.sampled_from(sorted(PLANS))


class Watched(RuleBasedStateMachine):
    """Keeps its own bytes, lines and places; knows of the scheduler only what it orders."""

    def __init__(self) -> None:
        super().__init__()
        self.device: Device = device(PLANS, 12 * GIB, host=6 * GIB, rules=RULES)
        self.now = 0.0
        self.next_at: float | None = None
        self.work: tuple[str, str] | None = None
        self.bytes = dict.fromkeys(PLANS, 0)
        self.serving = dict.fromkeys(PLANS, 0)
        self.lines: dict[str, dict[Class, deque[float]]] = {
            name: {service: deque() for service in CLASSES} for name in PLANS
        }
        self.counted: dict[str, int] = {}
        self.capacity = 12 * GIB
        self.taken = 0

    def feed(self, event: Occasion) -> None:
        before = self.device
        out = decide(before, event)
        line = encode(record(1, 0, before, event, out))
        assert again(line) == line
        self.device, self.next_at = out.after, out.next_at
        self.watch_evictions(out.effects)
        for effect in out.effects:
            self.perform(effect)
        for effect in out.effects:
            if isinstance(effect, Admit | Refuse):
                self.count_again(effect.model)

    def count_again(self, name: str) -> None:
        if name not in self.device.slots:
            return
        for service, line in self.lines[name].items():
            known = self.device.slots[name].waiting.get(service)
            told = None if known is None else (known.count, known.oldest)
            if told != ((len(line), line[0]) if line else None):
                oldest = line[0] if line else 0.0
                self.feed(Waiting(self.now, name, service, len(line), oldest))

    def count_fewer(self, name: str) -> None:
        """Some who were counted on a model may not wait any more."""
        if name in self.counted:
            waiting = sum(len(each) for each in self.lines[name].values())
            self.counted[name] = min(self.counted[name], waiting)

    def perform(self, effect: Effect) -> None:
        match effect:
            case Load(model=name) | Wake(model=name):
                assert self.work is None
                self.bytes[name] = self.device.slots[name].plan.size
                assert sum(self.bytes.values()) + self.taken <= self.capacity, "over-commit"
                self.work = ("load" if isinstance(effect, Load) else "wake", name)
            case Stop(model=name) | Sleep(model=name):
                assert self.work is None
                assert self.serving[name] == 0, "evicted while it serves"
                assert self.counted.pop(name, 0) == 0, "evicted while awaited"
                self.work = ("stop" if isinstance(effect, Stop) else "sleep", name)
            case Admit(model=name, count=many):
                self.admit(name, many)
            case Refuse(model=name, service=service, before=before):
                for each, line in self.lines[name].items():
                    while line and (service is None or (each == service and line[0] <= before)):
                        line.popleft()
                self.count_fewer(name)
            case Forget(model=name):
                assert self.bytes[name] == self.serving[name] == 0, "forgotten with its engine"
                assert not any(self.lines[name].values()), "forgotten while awaited"
                assert self.work is None or self.work[1] != name
            case Keep(model=name):
                self.counted.pop(name, None)

    def admit(self, name: str, many: int) -> None:
        for _ in range(many):
            line = next(line for line in self.lines[name].values() if line)
            service = next(s for s, each in self.lines[name].items() if each is line)
            assert self.now - line.popleft() <= RULES.limit[service] + 1e-6, "past its bound"
        self.serving[name] += many
        assert self.serving[name] <= PLANS[name].places
        if name in self.counted:
            self.counted[name] = max(0, self.counted[name] - many)

    def watch_evictions(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            if not isinstance(effect, Evict) or effect.cause == "died":
                continue
            lines = self.lines[effect.model]
            rank = len(CLASSES)
            if effect.cause == "room" and effect.room is not None:
                target = self.lines[effect.target]
                waiting = [i for i, service in enumerate(CLASSES) if target[service]]
                slot = self.device.slots[effect.target]
                if slot.pinned or slot.asked is not None:
                    waiting.append(CLASSES.index("standard"))
                rank = 1 + min(waiting, default=0)
                freed = sum(option.frees for option in effect.room.victims)
                assert freed >= effect.room.short > 0
                for option in effect.room.victims:
                    assert freed - option.frees < effect.room.short, "needless"
            self.counted[effect.model] = sum(len(lines[service]) for service in CLASSES[:rank])

    @initialize(pinned=st.sampled_from(["", "c"]))
    def begin(self, pinned: str) -> None:
        if pinned:
            self.feed(Pin(self.now, pinned, True))

    @rule(name=NAMES, service=st.sampled_from(CLASSES), many=st.integers(1, 4))
    def arrive(self, name: str, service: Class, many: int) -> None:
        for _ in range(many):
            if name not in self.device.slots:
                return
            self.lines[name][service].append(self.now)
            self.feed(Arrived(self.now, name, service))

    @rule(seconds=st.floats(0.1, 90, allow_nan=False))
    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.next_at is not None and self.next_at <= until:
            assert self.next_at > self.now
            self.now = self.next_at
            self.feed(Tick(self.now))
        self.now = until
        self.feed(Tick(self.now))

    @precondition(lambda self: any(self.serving.values()))
    @rule(data=st.data(), keep=st.sampled_from([None, None, -1.0, 0.0, 5.0]))
    def end(self, data: st.DataObject, keep: float | None) -> None:
        name = data.draw(st.sampled_from([n for n, many in self.serving.items() if many]))
        self.serving[name] -= 1
        self.feed(Ended(self.now, name, 1, keep))

    @precondition(lambda self: self.work is not None)
    @rule()
    def lose_room(self) -> None:
        """A load is not begun after all."""
        assert self.work is not None
        if self.work[0] == "load":
            (_, name), self.work = self.work, None
            self.bytes[name] = 0
            self.taken += GIB
            quarantined = self.device.quarantined
            taken = self.taken - quarantined
            self.feed(DeviceBytes(self.now, self.capacity, taken, quarantined, 6 * GIB))
            self.feed(Stopped(self.now, name))

    @precondition(lambda self: self.work is not None)
    @rule(fails=st.sampled_from([False, False, False, True]))
    def finish(self, fails: bool) -> None:
        assert self.work is not None
        (what, name), self.work = self.work, None
        match what:
            case "load" if fails:
                self.bytes[name] = 0
                self.feed(LoadFailed(self.now, name, "no"))
            case "wake" | "sleep" if fails:
                self.counted.pop(name, None)
                self.feed(Died(self.now, name, "no"))
            case "load":
                self.feed(Loaded(self.now, name, self.bytes[name], PLANS[name].load_seconds))
            case "wake":
                self.feed(Woken(self.now, name, 0.5))
            case "sleep":
                self.bytes[name] = PLANS[name].asleep_size
                self.feed(Slept(self.now, name, self.bytes[name], PLANS[name].host_size))
            case _:
                self.bytes[name] = 0
                self.feed(Stopped(self.now, name))

    @rule(name=NAMES)
    def die(self, name: str) -> None:
        slot = self.device.slots.get(name)
        resident = slot is not None and slot.state in ("ready", "asleep", "draining")
        if resident and (self.work is None or self.work[1] != name):
            self.serving[name] = 0
            self.counted.pop(name, None)
            self.feed(Died(self.now, name, "killed"))

    @rule(name=NAMES, service=st.sampled_from(CLASSES))
    def leave_line(self, name: str, service: Class) -> None:
        line = self.lines[name][service]
        if line:
            line.pop()
            self.count_fewer(name)
            self.feed(Waiting(self.now, name, service, len(line), line[0] if line else 0.0))

    @rule(name=NAMES, what=st.sampled_from([LoadAsked, UnloadAsked]))
    def order(self, name: str, what: type[LoadAsked | UnloadAsked]) -> None:
        if name in self.device.slots:
            self.feed(what(self.now, name))

    @rule(name=st.sampled_from("bd"), again=st.booleans())
    def withdraw(self, name: str, again: bool) -> None:
        """Its server has it no more, and perhaps soon again."""
        if name in self.device.slots:
            self.feed(Withdrawn(self.now, name))
        if again and name not in self.device.slots:
            self.feed(Planned(self.now, name, PLANS[name]))

    @rule(name=NAMES)
    def restore(self, name: str) -> None:
        if name in self.device.slots:
            self.feed(Restored(self.now, name))

    @rule(name=st.sampled_from("abcd"), pinned=st.booleans())
    def pin(self, name: str, pinned: bool) -> None:
        if name in self.device.slots:
            self.feed(Pin(self.now, name, pinned))

    @rule(foreign=st.sampled_from([0, GIB]), quarantined=st.sampled_from([0, 0, 2 * GIB]))
    def measure(self, foreign: int, quarantined: int) -> None:
        self.taken = foreign + quarantined
        self.feed(DeviceBytes(self.now, self.capacity, foreign, quarantined, 6 * GIB))

    @invariant()
    def accounts_agree(self) -> None:
        for name, slot in self.device.slots.items():
            assert slot.serving == self.serving[name]
            assert slot.count == sum(len(line) for line in self.lines[name].values())
            assert slot.held_bytes == self.bytes[name]
            assert not slot.gone or (slot.state in ("loading", "draining") and not slot.count)
        work = self.device.work
        assert (None if work is None else (work.what, work.model)) == self.work

    @invariant()
    def nobody_waits_past_the_limit(self) -> None:
        for lines in self.lines.values():
            for service, line in lines.items():
                assert not line or self.now - line[0] <= RULES.limit[service] + 1e-6

    def teardown(self) -> None:
        """Whoever waits is answered once engines start and requests end."""
        for _ in range(400):
            if self.work is not None:
                self.finish(fails=False)
            elif any(self.serving.values()):
                name = next(n for n, many in self.serving.items() if many)
                self.serving[name] -= 1
                self.feed(Ended(self.now, name))
            elif any(line for lines in self.lines.values() for line in lines.values()):
                assert self.next_at is not None, "somebody waits and nothing will happen"
                self.now = max(self.now, self.next_at)
                self.feed(Tick(self.now))
            else:
                return
        pytest.fail("requests are left after 400 steps")


Watched.TestCase.settings = settings(
    max_examples=300,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestWatched = Watched.TestCase


def test_pause_doubles_to_its_bound() -> None:
    assert [pause(n, Rules()) for n in (0, 1, 2, 3, 9, 10, 100)] == [0, 1, 2, 4, 256, 300, 300]
