"""What is where on one device: the state every decision starts from, and its arithmetic. Pure.

    absent ──▶ loading ──▶ ready ◀──▶ asleep
       ▲          │          │           │
       │        failed ◀──┐  ▼           │
       └──────────────────┴ draining ◀───┘

Bytes are bytes, times are seconds on one clock that never goes back, both given by events. This
file knows nothing of engines, queues or NVML.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec.structs import force_setattr

from shared.settings import SettingsError
from shared.wire.task import Class

State = Literal["absent", "loading", "ready", "asleep", "draining", "failed"]
Leaving = Literal["sleep", "stop"]
Cause = Literal["room", "idle", "asked", "died", "over", "gone"]
"""Why a model leaves: for another, its keep_alive, an administrator, its engine, a measurement, its
server that does not have it any more."""
Operation = Literal["load", "wake", "sleep", "stop"]

CLASSES: tuple[Class, ...] = ("interactive", "standard", "batch")
"""Most urgent first."""
NOT_DUE = 1e9
"""Seconds after which what runs in the background would close models in use: never."""
DUE: dict[Class, float] = {"interactive": 20.0, "standard": 40.0, "batch": 240.0}
LIMIT: dict[Class, float] = {"interactive": 600.0, "standard": 600.0, "batch": 86_400.0}
GIB = 1 << 30


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What may be tuned; part of the state, so that a decision is replayed under its own rules."""

    due: dict[Class, float] = msgspec.field(default_factory=lambda: dict(DUE))
    """Age of a waiter from which models in use are closed to make room for its own."""
    limit: dict[Class, float] = msgspec.field(default_factory=lambda: dict(LIMIT))
    """Age at which a waiter is refused."""
    stay: float = 2.0
    """A loaded model is not closed or evicted for another before it was ready for this long."""
    linger: float = 1.0
    """An idle model is kept for this share of the time to bring it back before another takes its
    room: whoever gives it up sooner may well pay more than the wait it saved.
    """
    memory: float = 60.0
    """Seconds: what a model is worth sinks by half when it was idle this long."""
    first_pause: float = 1.0
    """Back-off after the first failed load; it doubles."""
    longest_pause: float = 300.0
    patience: float = 4.0
    """The longest pause that waiters are held through, of a model that has been ready here."""


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one model takes: estimated before its first load, measured from then on."""

    size: int
    """Device bytes while it loads, is ready or drains."""
    load_seconds: float
    places: int = 1
    """Requests it works on at once."""
    keep_alive: float = 300.0
    """Seconds it may be idle; negative: for ever."""
    can_sleep: bool = False
    asleep_size: int = 0
    """Device bytes it keeps while asleep."""
    host_size: int = 0
    """Host bytes it takes while asleep."""
    wake_seconds: float = 0.0
    background: bool = False
    """A trainer's: it comes into room that nobody uses, and goes for anybody at once."""

    def __post_init__(self) -> None:
        # A whole number would come back from JSON as another value's bytes.
        for field in ("load_seconds", "keep_alive", "wake_seconds"):
            force_setattr(self, field, float(getattr(self, field)))


class Waiters(msgspec.Struct, frozen=True):
    """Requests of one class that wait for one model; `oldest` is when the first of them came."""

    count: int
    oldest: float


class Slot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model on this device."""

    plan: Plan
    state: State = "absent"
    since: float = 0.0
    """When it came into this state."""
    used: float = 0.0
    """The end of its last request, or when it became ready."""
    serving: int = 0
    waiting: dict[Class, Waiters] = {}
    keep: float | None = None
    """keep_alive of the last request that gave one."""
    pinned: bool = False
    asked: float | None = None
    """When an administrator asked for it; None once it is ready."""
    leaving: Leaving | None = None
    """draining: what follows when nobody is served any more."""
    cause: Cause | None = None
    """draining: why."""
    counted: int = 0
    """draining: waiters that are still served first."""
    dead: bool = False
    """draining: its engine is gone, only its bytes remain."""
    slept: bool = False
    """draining: it was asleep, and still is."""
    proven: bool = False
    """It has been ready here: its files are no reason for a failure."""
    gone: bool = False
    """Withdrawn: nobody gets it any more, and it is forgotten when nothing of it is left."""
    failures: int = 0
    retry_at: float = 0.0
    why: str = ""
    """The last failure, in the engine's words."""
    held: str = ""
    """What a waiter was last told to wait for."""

    @property
    def count(self) -> int:
        # Two decisions a request ask this of every model, and nearly always nobody waits.
        return sum(each.count for each in self.waiting.values()) if self.waiting else 0

    @property
    def idle(self) -> bool:
        """Nobody is served, nobody is counted on it."""
        return not self.serving and not self.count and self.asked is None

    @property
    def held_bytes(self) -> int:
        if self.state == "asleep" or self.slept:
            return self.plan.asleep_size
        return self.plan.size if self.state in ("loading", "ready", "draining") else 0

    @property
    def held_host(self) -> int:
        """Host bytes; a model on its way to sleep or from it has them already, or still."""
        asleep = self.state == "asleep" or self.slept or self.leaving == "sleep"
        return self.plan.host_size if asleep else 0

    @property
    def lack(self) -> int:
        """Bytes it takes beyond what it holds to become ready."""
        return self.plan.size - self.held_bytes

    @property
    def kept(self) -> float:
        """The keep_alive in force; negative: for ever."""
        return self.plan.keep_alive if self.keep is None else self.keep


class Work(msgspec.Struct, frozen=True):
    """The one start or stop under way on the device."""

    what: Operation
    model: str


class Swap(msgspec.Struct, frozen=True):
    """Room is being made: the victims leave, then `model` is loaded."""

    model: str
    victims: tuple[str, ...]


class Device(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything a decision about one device depends on, the event apart."""

    capacity: int
    """Bytes of the device that models may use together with all others."""
    slots: dict[str, Slot]
    foreign: int = 0
    """Bytes that programs other than our engines use, and leases of the trainer."""
    quarantined: int = 0
    """Bytes that a stopped engine has not given back."""
    host: int = 0
    """Host bytes that sleepers may take together."""
    work: Work | None = None
    swaps: tuple[Swap, ...] = ()
    now: float = 0.0
    rules: Rules = Rules()

    @property
    def free(self) -> int:
        """Bytes nobody holds; negative when a measurement exceeded what was reserved."""
        return self.capacity - self.foreign - self.quarantined - held_bytes(self.slots)

    @property
    def free_host(self) -> int:
        return self.host - sum(slot.held_host for slot in self.slots.values())

    def ceiling(self, model: str) -> int:
        """Bytes `model` could have with every model gone that may be made to go."""
        pinned = sum(s.plan.size for n, s in self.slots.items() if s.pinned and n != model)
        return self.capacity - self.foreign - self.quarantined - pinned


def gives(slot: Slot) -> int:
    """Device bytes a resident model gives back when it leaves the way it is about to."""
    return slot.held_bytes - (slot.plan.asleep_size if slot.leaving == "sleep" else 0)


def held_bytes(slots: Mapping[str, Slot]) -> int:
    return sum(slot.held_bytes for slot in slots.values())


def device(
    plans: Mapping[str, Plan],
    capacity: int,
    *,
    pinned: frozenset[str] = frozenset(),
    host: int = 0,
    now: float = 0.0,
    rules: Rules | None = None,
) -> Device:
    """The state of a device before its first event; raises SettingsError for too much pinned."""
    check_pinned(plans, pinned, capacity)
    slots = {
        name: Slot(plan=plan, since=float(now), used=float(now), pinned=name in pinned)
        for name, plan in plans.items()
    }
    exact = msgspec.convert(msgspec.to_builtins(rules or Rules()), Rules)
    return Device(capacity=capacity, slots=slots, host=host, now=float(now), rules=exact)


def check_pinned(plans: Mapping[str, Plan], pinned: frozenset[str], capacity: int) -> None:
    """Raises SettingsError when the pinned models do not fit together."""
    total = sum(plans[name].size for name in pinned)
    if total > capacity:
        each = ", ".join(f"{name} {gib(plans[name].size)}" for name in sorted(pinned))
        raise SettingsError(
            f"pinned models need {gib(total)} and the device has {gib(capacity)}: {each}."
            " Unpin some, or give them less context or fewer parallel requests."
        )


def moved(before: Device, after: Device) -> bool:
    """Whether a model is new, forgotten, in another state than before, or pinned and was not."""
    was, now = before.slots, after.slots
    return was.keys() != now.keys() or any(
        slot is not was[name] and (slot.state, slot.pinned) != (was[name].state, was[name].pinned)
        for name, slot in now.items()
    )


def pause(failures: int, rules: Rules) -> float:
    """Seconds of back-off after this many failures in a row."""
    if failures <= 0:
        return 0.0
    return float(min(rules.longest_pause, rules.first_pause * 2 ** min(failures - 1, 32)))


def due_at(slot: Slot, rules: Rules) -> float | None:
    """When the first of its waiters has waited long enough to close others; None: nobody waits."""
    if slot.plan.background:
        return None if slot.asked is None else slot.asked + NOT_DUE
    times = [waiters.oldest + rules.due[name] for name, waiters in slot.waiting.items()]
    if slot.asked is not None:
        times.append(slot.asked + rules.due["standard"])
    if slot.pinned and slot.state in ("absent", "asleep", "failed"):
        times.append(slot.since + rules.due["standard"])
    return min(times, default=None)


def urgency(slot: Slot, rules: Rules) -> int:
    """The most urgent class among the waiters that are due first, as an index of CLASSES."""
    first = due_at(slot, rules)
    for index, name in enumerate(CLASSES):
        waiters = slot.waiting.get(name)
        if waiters is not None and waiters.oldest + rules.due[name] == first:
            return index
    return CLASSES.index("standard")


def evictable_at(slot: Slot, rules: Rules) -> float:
    """When an idle model's room may be given to another that is not due yet."""
    if slot.state == "asleep" or slot.plan.background:
        return slot.since
    back = slot.plan.wake_seconds if slot.plan.can_sleep else slot.plan.load_seconds
    return max(slot.since + rules.stay, slot.used + rules.linger * back)


def gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"
