"""What is loaded, put to sleep, evicted, admitted, refused: one pure function per event.

`decide(device, event)` gives the next state, the effects and when to ask again. It reads no clock
and starts nothing; the loop performs the effects, in order, and answers with events.

The decision tree; the same numbers stand in the code:

 1. The event is written into the state.
 2. Waiters that cannot be served get their answer: their model failed and is in back-off, it could
    not fit with everything gone that may go, or they waited past the limit of their class.
 3. A ready model admits waiters up to its places; a draining one only those counted on it. One
    that was about to leave because it was idle stays if somebody came.
 4. One start or stop at a time: while one is under way, nothing else begins.
 5. A swap whose model nobody wants any more, or that cannot succeed, is abandoned: victims that
    have not begun to leave stay.
 6. A draining model that serves nobody and has nobody counted on it leaves: it sleeps or stops.
 7. Our models hold more bytes than there are: the cheapest go until it is mended. What others use
    drives nobody out: it only lowers what may be begun.
 8. The models that are wanted and not ready, first the one that is due first:
    8.1 it fits, beside the room that swaps of others have ordered: load or wake it;
    8.2 what drains already will make room: hold;
    8.3 idle models past their protection make room: evict the cheapest set of them;
    8.4 it is due: close the cheapest set of models in use. Waiters of its own class or a more
        urgent one that are there now are counted on them and served first;
    8.5 otherwise hold, and say why.
 9. Models idle for longer than their keep_alive go, where they can to sleep first.
10. A model that was withdrawn is forgotten when nothing of it is left; until then it only drains,
    and who waits for it is told (2).

A model that serves, or that a waiter is counted on, never leaves (6 is the only way out).
"""

from __future__ import annotations

import msgspec

from worker import reason
from worker.draft import Draft
from worker.effect import Admit, Effect, Load, Refuse, Sleep, Stop, Wake
from worker.occasion import Occasion, take
from worker.residency import (
    CLASSES,
    Device,
    Rules,
    Slot,
    Swap,
    Waiters,
    Work,
    due_at,
    urgency,
)
from worker.room import Room


class Outcome(msgspec.Struct, frozen=True):
    after: Device
    effects: tuple[Effect, ...]
    next_at: float | None
    """When to send a Tick, if nothing else happens before; None: no need."""


def decide(device: Device, event: Occasion) -> Outcome:
    """The decision tree above. Raises KeyError for a model the device does not know."""
    draft = Draft(device, event.at)
    take(draft, event)  # 1
    for name, slot in tuple(draft.slots.items()):
        if slot.waiting or slot.asked is not None or slot.gone:
            answer(draft, name)  # 2
    for name, slot in tuple(draft.slots.items()):
        if slot.waiting or slot.cause == "idle":
            admit(draft, name)  # 3
    if draft.work is None:  # 4
        check_swaps(draft)  # 5
        leave(draft)  # 6
        mend(draft)  # 7
        for name in wanted(draft):  # 8
            if draft.work is None:
                bring(draft, name)
        if draft.work is None:
            expire(draft)  # 9
    forget(draft)  # 10
    return Outcome(draft.device(), tuple(draft.effects), draft.next_at())


def answer(draft: Draft, name: str) -> None:
    """2: refuses who cannot be served, at once or when the limit of their class is reached."""
    slot = draft.slots[name]
    if slot.gone and slot.state in ("ready", "asleep"):
        draft.withdraw(name)
    if slot.count == 0 and slot.asked is None:
        return
    if slot.gone:
        draft.refuse(name, "gone", reason.gone(name))
        return
    if slot.state == "failed" and slot.retry_at > draft.now and not bearable(slot, draft.rules):
        rest = slot.retry_at - draft.now
        draft.refuse(name, "failed", reason.failed(name, slot, rest), rest)
        return
    if slot.state in ("absent", "asleep", "failed") and slot.plan.size > draft.ceiling(name):
        draft.refuse(name, "too_large", reason.too_large(name, draft.device()))
        return
    waiting = dict(slot.waiting)
    for service, waiters in slot.waiting.items():
        limit = draft.rules.limit[service]
        draft.wake_at(waiters.oldest + limit)
        if waiters.oldest + limit <= draft.now:
            why = reason.expired(name, draft.device(), limit)
            before = max(draft.now - limit, waiters.oldest)
            draft.effects.append(Refuse(name, "expired", why, limit, service, before))
            del waiting[service]
            if waiters.count > 1:
                waiting[service] = Waiters(waiters.count - 1, draft.now)
    if waiting != slot.waiting:
        draft.update(name, waiting=waiting)


def bearable(slot: Slot, rules: Rules) -> bool:
    """Who waits for a model that has been ready here does so through a short pause."""
    return slot.proven and slot.count > 0 and slot.retry_at - slot.since <= rules.patience


def admit(draft: Draft, name: str) -> None:
    """3: as many waiters as there are places, most urgent first."""
    if draft.slots[name].cause == "idle" and not draft.slots[name].idle:
        draft.keep(name, "somebody came for it")
    slot = draft.slots[name]
    if slot.state not in ("ready", "draining") or slot.dead or slot.slept:
        return
    if draft.work is not None and draft.work.model == name:
        return
    count = min(slot.count, max(0, slot.plan.places - slot.serving))
    if slot.state == "draining":
        count = min(count, slot.counted)
    if count == 0:
        return
    waiting, left = dict(slot.waiting), count
    for service in CLASSES:
        waiters = waiting.pop(service, Waiters(0, 0.0))
        taken = min(left, waiters.count)
        left -= taken
        if waiters.count > taken:
            waiting[service] = Waiters(waiters.count - taken, waiters.oldest)
    draft.update(
        name,
        waiting=waiting,
        serving=slot.serving + count,
        counted=max(0, slot.counted - count),
        held="",
    )
    draft.effects.append(Admit(name, count))


def check_swaps(draft: Draft) -> None:
    """5"""
    for swap in draft.swaps:
        slot = draft.slots[swap.model]
        lost = not wants(slot) or slot.state not in ("absent", "asleep", "failed")
        if lost or draft.ordered() > draft.free + draft.coming:
            draft.forget(swap)


def leave(draft: Draft) -> None:
    """6"""
    for name, slot in draft.slots.items():
        if draft.work is None and slot.state == "draining" and not slot.serving:
            if slot.counted:
                continue
            if slot.leaving == "sleep":
                draft.work = Work("sleep", name)
                draft.effects.append(Sleep(name))
            else:
                draft.work = Work("stop", name)
                draft.effects.append(Stop(name))


def mend(draft: Draft) -> None:
    """7"""
    short = -(draft.free + draft.coming + draft.foreign)
    if short <= 0:
        return
    spared = -draft.foreign
    room = draft.find_room("", spared, idle=True) or draft.find_room("", spared, idle=False)
    for option in room.victims if room else ():
        why = reason.over(option, short)
        counted = draft.slots[option.model].count
        draft.drain(option.model, option.leaving, "over", why, counted=counted, room=room)
    leave(draft)


def wanted(draft: Draft) -> list[str]:
    """Models to bring, the one that is due first in front."""
    times = {
        name: due_at(slot, draft.rules)
        for name, slot in draft.slots.items()
        if slot.state in ("absent", "asleep", "failed") and wants(slot)
    }
    found = {name: time for name, time in times.items() if time is not None}
    return sorted(found, key=lambda name: (found[name], name))


def wants(slot: Slot) -> bool:
    return slot.count > 0 or slot.asked is not None or slot.pinned


def bring(draft: Draft, name: str) -> None:
    """8"""
    slot = draft.slots[name]
    if slot.state == "failed" and slot.retry_at > draft.now:
        draft.wake_at(slot.retry_at)
        return
    if slot.lack <= draft.spare(name):  # 8.1
        begin(draft, name)
        return
    if slot.lack <= draft.free + draft.coming - draft.ordered(name):  # 8.2
        draft.hold(name, "leaving", reason.coming(name, draft.device()))
        return
    due = due_at(slot, draft.rules)
    is_due = due is not None and due <= draft.now
    room = draft.find_room(name, slot.lack, idle=True)  # 8.3
    if room is None and is_due:
        room = draft.find_room(name, slot.lack, idle=False)  # 8.4
    if room is not None:
        make_room(draft, name, room, urgency(slot, draft.rules))
        return
    if due is not None:
        draft.wake_at(due)
    draft.hold(name, "in use", reason.in_use(name, draft.device()))  # 8.5


def begin(draft: Draft, name: str) -> None:
    """8.1"""
    slot = draft.slots[name]
    why = reason.begins(name, slot, draft.free)
    if slot.state == "asleep":
        draft.work = Work("wake", name)
        draft.effects.append(Wake(name, why))
    else:
        draft.work = Work("load", name)
        draft.effects.append(Load(name, why))
    draft.enter(name, "loading", keep=None)
    for swap in draft.swaps:
        if swap.model == name:
            draft.forget(swap)


def make_room(draft: Draft, name: str, room: Room, rank: int) -> None:
    """8.3 and 8.4"""
    victims = tuple(option.model for option in room.victims)
    draft.swaps = (*draft.swaps, Swap(name, victims))
    for option in room.victims:
        slot = draft.slots[option.model]
        ahead = [slot.waiting[s].count for s in CLASSES[: rank + 1] if s in slot.waiting]
        counted = sum(ahead) if slot.state == "ready" else 0
        why = reason.evicted(option, slot, name, room, draft.now)
        draft.drain(
            option.model, option.leaving, "room", why, counted=counted, target=name, room=room
        )
    others = [victim for swap in draft.swaps for victim in swap.victims if victim not in victims]
    draft.spare_victims(others, f"what leaves for {name} makes enough room")
    leave(draft)


def expire(draft: Draft) -> None:
    """9"""
    for name, slot in draft.slots.items():
        if slot.state not in ("ready", "asleep") or not slot.idle or slot.pinned or slot.kept < 0:
            continue
        began = slot.used if slot.state == "ready" else slot.since
        ends = began + slot.kept
        if ends > draft.now:
            draft.wake_at(ends)
            continue
        sleeps = slot.state == "ready" and slot.kept > 0 and slot.plan.can_sleep
        sleeps = sleeps and slot.plan.host_size <= draft.free_host
        why = reason.idle(name, slot, draft.now)
        draft.drain(name, "sleep" if sleeps else "stop", "idle", why)
    leave(draft)


def forget(draft: Draft) -> None:
    """10"""
    for name, slot in list(draft.slots.items()):
        if slot.gone and slot.state in ("absent", "failed") and not slot.serving:
            draft.forget_gone(name)
