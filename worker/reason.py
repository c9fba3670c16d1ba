"""Decisions in words: what happened, with which numbers, and what the alternative was. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from worker.residency import Device, Slot, gib
from worker.room import Option, Room


def begins(name: str, slot: Slot, free: int) -> str:
    verb = "wakes" if slot.state == "asleep" else "loads"
    wants = f"{slot.count} waiting" if slot.count else "pinned" if slot.pinned else "asked for"
    return f"{name} {verb} ({wants}): it takes {gib(slot.lack)} of {gib(free)} free"


def evicted(option: Option, slot: Slot, target: str, room: Room, now: float) -> str:
    """Why this victim; with the first one also the alternative and what would have spared all."""
    verb = "put to sleep" if option.leaving == "sleep" else "evicted"
    worth = f"frees {gib(option.frees)}, back in {option.seconds:.1f} s, {standing(slot, now)}"
    first = room.victims[0]
    if option.model != first.model:
        return f"{option.model} {verb} for {target} together with {first.model}: {worth}"
    text = (
        f"{option.model} {verb} for {target}, which takes {gib(room.lack)} where"
        f" {gib(room.free)} is free: {worth}"
    )
    if len(room.victims) > 1:
        text += f"; together with {names(room.victims, without=option.model)}"
    if room.instead:
        text += (
            f"; the alternative {names(room.instead)} would have cost"
            f" {price(room.instead):.1f} against {price(room.victims):.1f}"
        )
    else:
        text += "; there was no alternative"
    return text + f"; with {gib(room.short)} more nothing would have been evicted"


def standing(slot: Slot, now: float) -> str:
    if slot.serving or slot.count:
        return f"serves {slot.serving}, {slot.count} waiting"
    return f"idle for {now - slot.used:.1f} s"


def names(options: Sequence[Option], without: str = "") -> str:
    return " and ".join(o.model for o in options if o.model != without)


def price(options: Sequence[Option]) -> float:
    return sum(option.price for option in options)


def gone(name: str) -> str:
    return f"The model {name!r} does not exist any more: its server has removed it"


def over(option: Option, short: int) -> str:
    return f"{option.model} goes: {gib(short)} more are in use than the device has"


def idle(name: str, slot: Slot, now: float) -> str:
    since = slot.used if slot.state == "ready" else slot.since
    return f"{name} was {slot.state} and idle for {now - since:.0f} s, keep_alive {slot.kept:g} s"


def failed(name: str, slot: Slot, rest: float) -> str:
    return f"{name} did not start ({slot.why}); start {slot.failures + 1} in {rest:.0f} s"


def too_large(name: str, device: Device) -> str:
    slot = device.slots[name]
    pinned = sum(s.plan.size for n, s in device.slots.items() if s.pinned and n != name)
    text = f"{name} needs {gib(slot.plan.size)}, the device has {gib(device.capacity)}"
    parts = (("pinned", pinned), ("used by others", device.foreign))
    for label, size in (*parts, ("quarantined", device.quarantined)):
        text += f", {gib(size)} {label}" if size else ""
    return text + f": {gib(max(0, device.ceiling(name)))} can be had"


def expired(name: str, device: Device, limit: float) -> str:
    slot = device.slots[name]
    if slot.state in ("ready", "draining"):
        return f"no place for {limit:.0f} s: {name} serves {slot.serving}"
    return f"no room for {limit:.0f} s: {in_use(name, device)}"


def in_use(name: str, device: Device) -> str:
    slot = device.slots[name]
    resident = [
        f"{other} {each.state} serving {each.serving}"
        for other, each in device.slots.items()
        if each.held_bytes and other != name
    ]
    return (
        f"{name} takes {gib(slot.lack)}, {gib(device.free)} is free;"
        f" resident: {', '.join(resident) or 'none'}"
    )


def coming(name: str, device: Device) -> str:
    leaving = [other for other, slot in device.slots.items() if slot.state == "draining"]
    return f"{name} waits for the room of {' and '.join(leaving)}"
