"""One decision in the making: a copy of the state that may be written, and what it came to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from worker import reason
from worker.effect import Code, Effect, Evict, Forget, Hold, Keep, Refuse
from worker.residency import (
    Cause,
    Device,
    Leaving,
    Slot,
    State,
    Swap,
    due_at,
    evictable_at,
    gib,
    gives,
    held_bytes,
)
from worker.room import Room, choose, options


class Draft:
    """Lives for one call of `scheduler.decide`; the Device it came from is left as it was."""

    def __init__(self, device: Device, at: float) -> None:
        self.now = max(device.now, float(at))
        self.rules = device.rules
        self.slots: dict[str, Slot] = dict(device.slots)
        self.capacity = device.capacity
        self.foreign = device.foreign
        self.quarantined = device.quarantined
        self.host = device.host
        self.work = device.work
        self.swaps = device.swaps
        self.effects: list[Effect] = []
        self.alarms: list[float] = []

    def device(self) -> Device:
        return Device(
            capacity=self.capacity,
            slots=self.slots,
            foreign=self.foreign,
            quarantined=self.quarantined,
            host=self.host,
            work=self.work,
            swaps=self.swaps,
            now=self.now,
            rules=self.rules,
        )

    @property
    def free(self) -> int:
        return self.capacity - self.foreign - self.quarantined - held_bytes(self.slots)

    @property
    def free_host(self) -> int:
        return self.device().free_host

    def ceiling(self, model: str) -> int:
        return self.device().ceiling(model)

    def update(self, model: str, **changes: Any) -> None:
        self.slots[model] = replace(self.slots[model], **changes)

    def enter(self, model: str, state: State, **changes: Any) -> None:
        """Into another state; what belonged to the last one is forgotten."""
        fresh: dict[str, Any] = {
            "leaving": None,
            "cause": None,
            "counted": 0,
            "dead": False,
            "slept": False,
            "held": "",
        }
        self.update(model, state=state, since=self.now, **(fresh | changes))

    def wake_at(self, time: float) -> None:
        """Ask to be called again then, if that is still to come."""
        if time > self.now:
            self.alarms.append(time)

    def next_at(self) -> float | None:
        return min(self.alarms, default=None)

    def drain(
        self,
        model: str,
        leaving: Leaving,
        cause: Cause,
        why: str,
        *,
        counted: int = 0,
        target: str = "",
        room: Room | None = None,
    ) -> None:
        """No more requests than the counted waiters; it leaves when they are served."""
        slept = self.slots[model].state == "asleep"
        self.update(
            model, state="draining", leaving=leaving, cause=cause, counted=counted, slept=slept
        )
        sleeps = leaving == "sleep"
        self.effects.append(Evict(model, cause, why, target, room, sleeps))

    def keep(self, model: str, why: str) -> None:
        """Back from draining, where its engine was not touched yet."""
        if self.work is None or self.work.model != model:
            state: State = "asleep" if self.slots[model].slept else "ready"
            self.update(model, state=state, leaving=None, cause=None, counted=0, slept=False)
            self.effects.append(Keep(model, why))
            self.swaps = tuple(
                replace(swap, victims=tuple(v for v in swap.victims if v != model))
                for swap in self.swaps
            )

    def unload(self, model: str) -> None:
        """By order: whoever waits now is served first."""
        slot = self.slots[model]
        if slot.state in ("ready", "asleep"):
            counted = slot.count if slot.state == "ready" else 0
            why = f"{model} goes: an administrator asked for it"
            self.drain(model, "stop", "asked", why, counted=counted)
        elif slot.state == "draining":
            self.update(model, cause="asked")
        elif slot.state == "loading":
            self.update(model, keep=0.0)

    def withdraw(self, model: str) -> None:
        """Whoever is served is served to the end, and nobody after."""
        self.update(model, gone=True, pinned=False, asked=None, counted=0)
        slot = self.slots[model]
        if slot.state in ("ready", "asleep"):
            self.drain(model, "stop", "gone", reason.gone(model))
        elif slot.state == "draining" and not slot.dead:
            self.update(model, leaving="stop", cause="gone")

    def forget_gone(self, model: str) -> None:
        del self.slots[model]
        self.swaps = tuple(
            replace(swap, victims=tuple(v for v in swap.victims if v != model))
            for swap in self.swaps
            if swap.model != model
        )
        self.effects.append(Forget(model))

    @property
    def coming(self) -> int:
        """Bytes that those who drain will give back."""
        return sum(gives(slot) for slot in self.slots.values() if slot.state == "draining")

    def ordered(self, besides: str = "") -> int:
        """Bytes that swaps have ordered, for models other than `besides`."""
        models = (swap.model for swap in self.swaps if swap.model != besides)
        return sum(self.slots[model].lack for model in models)

    def spare(self, model: str) -> int:
        """Bytes `model` may take now without breaking into what others have ordered."""
        return min(self.free, self.free + self.coming - self.ordered(model))

    def find_room(self, target: str, lack: int, *, idle: bool) -> Room | None:
        """The cheapest set that makes room: of idle models past their protection, or of all that
        have had their minimum stay, but for sleepers somebody waits for. For a model that is due
        the protection of the idle ends with the stay.
        """
        due = due_at(self.slots[target], self.rules) if target else self.now
        is_due = due is not None and due <= self.now
        choices = []
        for name, slot in self.slots.items():
            if name == target or slot.pinned or slot.state not in ("ready", "asleep"):
                continue
            if not slot.held_bytes:
                continue
            if (idle or slot.state == "asleep") and not slot.idle:
                continue
            stays = slot.since + self.rules.stay if slot.state == "ready" else slot.since
            leaves = stays if is_due else evictable_at(slot, self.rules)
            if target and leaves > self.now:
                self.wake_at(leaves)
                continue
            choices.append(options(name, slot, self.now, self.rules, host=self.free_host))
        free = self.free + self.coming - self.ordered(target)
        return choose(choices, lack, free, self.free_host)

    def forget(self, swap: Swap) -> None:
        """Make no more room for it: victims that have not begun to leave stay, where they can."""
        self.swaps = tuple(other for other in self.swaps if other != swap)
        self.spare_victims(swap.victims, f"no more room is needed for {swap.model}")

    def spare_victims(self, victims: Iterable[str], why: str) -> None:
        """Those that were not touched yet stay, if what is ordered fits without their room."""
        for name in victims:
            slot = self.slots[name]
            if slot.state != "draining" or slot.dead or slot.cause != "room":
                continue
            if self.free + self.coming - gives(slot) >= self.ordered():
                self.keep(name, why)

    def refuse(self, model: str, code: Code, why: str, retry_after: float | None = None) -> None:
        """All who wait for it, and whoever asked for it."""
        self.effects.append(Refuse(model, code, why, retry_after))
        self.update(model, waiting={}, counted=0, asked=None, held="")

    def refuse_pin(self, model: str) -> None:
        size, ceiling = self.slots[model].plan.size, self.ceiling(model)
        why = f"{model} needs {gib(size)} and {gib(ceiling)} can be had beside what is pinned"
        self.effects.append(Refuse(model, "pinned_over_budget", why))

    def hold(self, model: str, code: str, why: str) -> None:
        if self.slots[model].held != code:
            self.update(model, held=code)
            self.effects.append(Hold(model, code, why))
