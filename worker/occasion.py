"""What happens to a device: the events that decisions are made on, and how the state takes them.

`at` is seconds on one clock; an event that comes late counts as now.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from shared.wire.task import Class
from worker import reason
from worker.draft import Draft
from worker.residency import Plan, Slot, Waiters, Work, pause


class Arrived(msgspec.Struct, frozen=True, tag=True):
    """One more request waits for a model."""

    at: float
    model: str
    service: Class


class Waiting(msgspec.Struct, frozen=True, tag=True):
    """The queue's own count of one class for one model; replaces what was known."""

    at: float
    model: str
    service: Class
    count: int
    oldest: float


class Ended(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Admitted requests are over, however they ended."""

    at: float
    model: str
    count: int = 1
    keep_alive: float | None = None
    """What the request asked: seconds, 0 at once, negative for ever; None: the model's own."""
    answered: bool = True
    """Whether the engine did its work; False says nothing of its health."""


class LoadAsked(msgspec.Struct, frozen=True, tag=True):
    at: float
    model: str


class UnloadAsked(msgspec.Struct, frozen=True, tag=True):
    at: float
    model: str


class Pin(msgspec.Struct, frozen=True, tag=True):
    at: float
    model: str
    pinned: bool


class Planned(msgspec.Struct, frozen=True, tag=True):
    """A new estimate, or a model that was not known."""

    at: float
    model: str
    plan: Plan


class Withdrawn(msgspec.Struct, frozen=True, tag=True):
    """Its server does not have it any more: it ends what it serves, and is forgotten."""

    at: float
    model: str


class Restored(msgspec.Struct, frozen=True, tag=True):
    """What its loads failed of is over: it may be tried at once."""

    at: float
    model: str


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """Ready; `size` is measured, `seconds` is what the start took."""

    at: float
    model: str
    size: int
    seconds: float


class LoadFailed(msgspec.Struct, frozen=True, tag=True):
    """The start failed and everything it took was released or told as quarantined before."""

    at: float
    model: str
    why: str


class Woken(msgspec.Struct, frozen=True, tag=True):
    at: float
    model: str
    seconds: float


class Slept(msgspec.Struct, frozen=True, tag=True):
    """Asleep; both sizes are measured."""

    at: float
    model: str
    asleep_size: int
    host_size: int


class Stopped(msgspec.Struct, frozen=True, tag=True):
    """The process group is gone; bytes it has not given back were told as quarantined before.

    Or a load was not begun after all, because others took its room: they were told before, too.
    """

    at: float
    model: str


class Died(msgspec.Struct, frozen=True, tag=True):
    """The engine is gone, and with it all it served; those who are retried wait again."""

    at: float
    model: str
    why: str


class DeviceBytes(msgspec.Struct, frozen=True, tag=True):
    at: float
    capacity: int
    foreign: int
    quarantined: int
    host: int


class Tick(msgspec.Struct, frozen=True, tag=True):
    """Nothing happened but time."""

    at: float


Occasion = (
    Arrived
    | Waiting
    | Ended
    | LoadAsked
    | UnloadAsked
    | Pin
    | Planned
    | Withdrawn
    | Restored
    | Loaded
    | LoadFailed
    | Woken
    | Slept
    | Stopped
    | Died
    | DeviceBytes
    | Tick
)


def take(draft: Draft, event: Occasion) -> None:
    """Write the event into the state; an event of an unknown model raises KeyError."""
    match event:
        case DeviceBytes():
            draft.capacity, draft.foreign = event.capacity, event.foreign
            draft.quarantined, draft.host = event.quarantined, event.host
        case Planned():
            new = Slot(plan=event.plan, since=draft.now, used=draft.now)
            known = draft.slots.get(event.model, new)
            draft.slots[event.model] = replace(known, plan=event.plan)
        case Withdrawn():
            draft.withdraw(event.model)
        case Restored():
            if draft.slots[event.model].state == "failed":
                draft.enter(event.model, "absent", failures=0, retry_at=0.0, why="")
        case Arrived() | Waiting() | Ended():
            take_request(draft, event)
        case LoadAsked() | UnloadAsked() | Pin():
            take_order(draft, event)
        case Loaded() | LoadFailed() | Woken() | Slept() | Stopped() | Died():
            take_engine(draft, event)


def take_request(draft: Draft, event: Arrived | Waiting | Ended) -> None:
    slot = draft.slots[event.model]
    if isinstance(event, Ended):
        keep = slot.keep if event.keep_alive is None else float(event.keep_alive)
        healthy = event.answered and not slot.dead
        draft.update(
            event.model,
            serving=max(0, slot.serving - event.count),
            used=draft.now,
            keep=keep,
            failures=0 if healthy else slot.failures,
        )
        return
    waiting = dict(slot.waiting)
    known = waiting.pop(event.service, Waiters(0, draft.now))
    if isinstance(event, Waiting):
        known = Waiters(event.count, float(event.oldest))
    else:
        known = Waiters(known.count + 1, known.oldest)
    if known.count:
        waiting[event.service] = known
    draft.update(
        event.model,
        waiting=waiting,
        counted=min(slot.counted, sum(each.count for each in waiting.values())),
        held=slot.held if waiting else "",
    )


def take_order(draft: Draft, event: LoadAsked | UnloadAsked | Pin) -> None:
    slot = draft.slots[event.model]
    if slot.gone:
        draft.refuse(event.model, "gone", reason.gone(event.model))
        return
    match event:
        case LoadAsked():
            if slot.state != "ready":
                draft.update(event.model, asked=draft.now)
        case UnloadAsked():
            draft.update(event.model, asked=None, pinned=False)
            draft.unload(event.model)
        case Pin(pinned=pinned):
            if pinned and slot.plan.size > draft.ceiling(event.model):
                draft.refuse_pin(event.model)
            else:
                draft.update(event.model, pinned=pinned)
                if pinned and slot.state == "draining" and not slot.dead:
                    draft.keep(event.model, "it was pinned")


def take_engine(draft: Draft, event: Loaded | LoadFailed | Woken | Slept | Stopped | Died) -> None:
    name = event.model
    slot = draft.slots[name]
    if isinstance(event, Died) and (slot.state in ("absent", "failed") or slot.dead):
        return
    if isinstance(event, Died) and draft.work == Work("stop", name):
        # What was being stopped anyway; Stopped is still to come.
        return
    if draft.work is not None and draft.work.model == name:
        draft.work = None
    match event:
        case Loaded(size=size, seconds=seconds):
            plan = replace(slot.plan, size=size, load_seconds=seconds)
            draft.enter(name, "ready", plan=plan, used=draft.now, asked=None, proven=True)
        case Woken(seconds=seconds):
            plan = replace(slot.plan, wake_seconds=seconds)
            draft.enter(name, "ready", plan=plan, used=draft.now, asked=None)
        case Slept(asleep_size=asleep, host_size=host):
            plan = replace(slot.plan, asleep_size=asleep, host_size=host)
            draft.enter(name, "asleep", plan=plan)
        case LoadFailed(why=why):
            failures = slot.failures + 1
            retry_at = draft.now + pause(failures, draft.rules)
            draft.enter(name, "failed", failures=failures, retry_at=retry_at, why=why)
        case Died(why=why):
            failures = slot.failures + 1
            draft.enter(
                name,
                "draining",
                leaving="stop",
                cause="died",
                dead=True,
                slept=slot.slept or slot.state == "asleep",
                serving=0,
                failures=failures,
                why=why,
            )
        case Stopped():
            if slot.dead:
                retry_at = draft.now + pause(slot.failures - 1, draft.rules)
                draft.enter(name, "failed", retry_at=retry_at)
            else:
                draft.enter(name, "absent")
